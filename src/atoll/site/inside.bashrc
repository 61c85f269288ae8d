# What bash reads in `atoll shell`, instead of ~/.bashrc.
[ -f ~/.bashrc ] && . ~/.bashrc
PS1="($ATOLL_SITE) ${PS1-\\$ }"
