"""Placement plans: how many full sites a cloud has and where, which sites are their compute sites, and where images are kept.

A plan's file names sites, round trips, load and budgets (`document`). Operations cost sequential round trips and bytes (`costs`), from
which the numbers of the problem follow (`problem`). HiGHS solves it as a mixed-integer program (`program`, `solver`). The plan is then
evaluated without the solver (`placement`): its price, the use of each bound, and the price of moving one instance (`moves`). If the bounds
contradict, `conflict` names them.
"""
