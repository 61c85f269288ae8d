# Flattens JSON: a line for each value that is not an object or a list, with its path, a tab, and the value.
# {"a": {"b": "c"}, "d": [1]} becomes .a.b c and .d.0 1; control characters in strings become spaces.

{ text = text $0 "\n" }
END { value("") }

function skip() { sub(/^[ \t\r\n]+/, "", text) }

function take(count,    taken) {
    taken = substr(text, 1, count)
    text = substr(text, count + 1)
    return taken
}

function string(    raw) {
    if (!match(text, /^"([^"\\]|\\.)*"/)) { text = ""; return "" }
    raw = take(RLENGTH)
    return unescape(substr(raw, 2, length(raw) - 2))
}

function unescape(raw,    made, at, kind) {
    while (at = index(raw, "\\")) {
        made = made substr(raw, 1, at - 1)
        kind = substr(raw, at + 1, 1)
        if (kind == "u") {
            made = made utf8(hexadecimal(substr(raw, at + 2, 4)))
            raw = substr(raw, at + 6)
        } else {
            made = made (index("bfnrt", kind) ? " " : kind)
            raw = substr(raw, at + 2)
        }
    }
    return made raw
}

function hexadecimal(digits,    number, i) {
    for (i = 1; i <= length(digits); i++) number = 16 * number + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
    return number
}

function utf8(code) {
    if (code < 32) return " "
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code >= 55296 && code < 57344) return "?"  # half of a pair
    return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
}

function value(path,    first, count, key) {
    skip()
    first = substr(text, 1, 1)
    if (first == "{" || first == "[") {
        take(1)
        for (skip(); text != "" && !match(text, /^[]}]/); skip()) {
            if (text ~ /^,/) { take(1); continue }
            key = count + 0
            count++
            if (first == "{") { key = string(); skip(); take(1); skip() }
            value(path "." key)
        }
        take(1)
    } else if (first == "\"") {
        print path "\t" string()
    } else if (match(text, /^[^],}[:space:]]+/)) {
        print path "\t" take(RLENGTH)
    } else {
        take(1)
    }
}
