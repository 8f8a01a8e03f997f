# bash completion of holdfastctl(1). Names of arenas, keys and checkpoints are asked of the daemon that --socket= names: for a
# second at most, a screenful or two at most, and silently where it does not answer. A test holds verbs and options together
# with the tool's own tables.

__holdfastctl_ask() {
    timeout 1 "${program/#\~/$HOME}" ${socket:+"--socket=$socket"} --timeout=1 -q "$@" 2>/dev/null </dev/null
}

__holdfastctl_arenas() {
    __holdfastctl_ask arenas --no-legend | awk '{ print $1 }'
}

# Keys that a shell and a line can hold: those that JSON writes without an escape.
__holdfastctl_keys() {
    __holdfastctl_ask list "$1" --keys -j "--prefix=$2" | sed -n 's/^"\([^"\\]*\)"$/\1/p' | head -n 200
}

# Of that state.
__holdfastctl_checkpoints() {
    __holdfastctl_ask checkpoints --json=short | grep -o '{"id":"[^{}]*' | grep "\"state\":\"$1\"" | cut -d '"' -f 4
}

__holdfastctl_methods() {
    __holdfastctl_ask introspect | sed -n 's/^method \([A-Za-z]*\)(.*/\1/p'
}

# The lines of stdin that begin with the word, quoted as the line needs it.
__holdfastctl_reply() {
    local line
    while IFS= read -r line; do
        if [[ -n $line && $line == "$1"* ]]; then
            [[ -n $quote ]] || printf -v line %q "$line"
            COMPREPLY+=("$line")
        fi
    done
}

__holdfastctl_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

__holdfastctl_value() {
    case $1 in
        --socket) __holdfastctl_files "$2" ;;
        --json) mapfile -t COMPREPLY < <(compgen -W 'pretty short off' -- "$2") ;;
        --group) mapfile -t COMPREPLY < <(compgen -g -- "$2") ;;
        --arena) __holdfastctl_reply "$2" < <(__holdfastctl_ask image info "${arguments[2]}" --json=short |
            grep -o '"name":"[^"]*"' | cut -d '"' -f 4) ;;
    esac
}

# arguments[0]: the verb; what is completed is the argument behind the last of them.
__holdfastctl_argument() {
    local count=${#arguments[@]}
    case ${arguments[0]}:$count in
        change:1 | drop:1 | get:1 | put:1 | delete:1 | merge:1 | increment:1 | list:1 | apply:1 | import:1 | export:1 | checkpoint:*)
            __holdfastctl_reply "$1" < <(__holdfastctl_arenas) ;;
        get:* | put:2 | delete:2 | merge:2 | increment:2)
            __holdfastctl_reply "$1" < <(__holdfastctl_keys "${arguments[1]}" "$1") ;;
        apply:2 | import:2 | image:2)
            __holdfastctl_files "$1" ;;
        cancel:1)
            __holdfastctl_reply "$1" < <(__holdfastctl_checkpoints running) ;;
        verify:1 | remove:1)
            __holdfastctl_reply "$1" < <(__holdfastctl_checkpoints complete) ;;
        image:1)
            mapfile -t COMPREPLY < <(compgen -W 'verify info export' -- "$1") ;;
        call:1)
            __holdfastctl_reply "$1" < <(__holdfastctl_methods) ;;
        introspect:1)
            mapfile -t COMPREPLY < <(compgen -W 'io.holdfast org.varlink.service' -- "$1") ;;
    esac
}

_holdfastctl() {
    local -r verbs='status top metrics reload arenas create change drop get put delete merge increment list apply import
        export checkpoint checkpoints cancel verify remove image call introspect'
    local -r common='--socket= --json= -j --no-legend --no-pager -q --quiet --timeout= -h --help --version'
    local -Ar options=(
        [top]='--interval= --once'
        [create]='--max-bytes= --mode= --group='
        [change]='--max-bytes= --mode= --group='
        [get]='--revision'
        [put]='--revision --if-revision='
        [delete]='--revision --if-revision='
        [merge]='--revision --if-revision='
        [increment]='--revision --if-revision='
        [list]='--prefix= --keys'
        [apply]='--revision'
        [import]='--key='
        [export]='--prefix='
        [checkpoint]='--label= --no-wait'
        [image]='--arena='
        [call]='--more'
    )
    local program=$1 socket='' quote='' ended='' before='' cur word i rest=${COMP_LINE:0:COMP_POINT}
    local words=() arguments=()

    # readline parts words at "=" and ":" too. What stands together on the line is one word here.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${rest#"${rest%%[![:space:]]*}"}
        if ((i == 0)) || [[ $word != "$rest" ]]; then
            words+=('')
        fi
        rest=$word
        word=${COMP_WORDS[i]}
        [[ $rest == "$word"* ]] || word=$rest
        words[-1]+=$word
        rest=${rest#"$word"}
    done
    cur=${words[-1]}
    unset 'words[-1]'

    for word in "${words[@]:1}"; do
        word=${word//[\\\'\"]/}
        if [[ -n $before ]]; then
            [[ $before != --socket ]] || socket=${word/#\~/$HOME}
            before=''
        elif [[ -z $ended && $word == -- ]]; then
            ended=1
        elif [[ -z $ended && $word == --*=* ]]; then
            [[ $word != --socket=* ]] || socket=${word#*=}
        elif [[ -z $ended && $word == --* ]]; then
            [[ " $common ${options[*]} " != *" $word= "* ]] || before=$word
        elif [[ -n $ended || $word != -[a-z]* ]]; then
            arguments+=("$word")
        fi
    done

    COMPREPLY=()
    if [[ $cur == [\'\"]* ]]; then
        quote=${cur:0:1}
        cur=${cur:1}
    fi
    cur=${cur//\\/}
    if [[ -n $before ]]; then
        __holdfastctl_value "$before" "$cur"
    elif [[ -z $ended && $cur == --*=* ]]; then
        __holdfastctl_value "${cur%%=*}" "${cur#*=}"
        # Where "=" is no break, the reply stands for all of the word.
        [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/${cur%%=*}=}")
    elif [[ -z $ended && $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$common ${options[${arguments[0]:-none}]-}" -- "$cur")
        [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
    elif ((${#arguments[@]} == 0)); then
        mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$cur")
    else
        __holdfastctl_argument "$cur"
        # Behind a ":" that is a break, readline wants the rest alone. printf %q leaves colons as they are.
        if [[ $cur == *:* && $COMP_WORDBREAKS == *:* && -z $quote ]]; then
            printf -v word %q "${cur%"${cur##*:}"}"
            COMPREPLY=("${COMPREPLY[@]#"$word"}")
        fi
    fi
}

complete -F _holdfastctl holdfastctl
