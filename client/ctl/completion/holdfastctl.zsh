#compdef holdfastctl
# zsh completion of holdfastctl(1). Names of arenas, keys and checkpoints are asked of the daemon that --socket= names: for a
# second at most, a screenful or two at most, and silently where it does not answer. A test holds verbs and options together
# with the tool's own tables.

__holdfastctl_ask() {
    timeout 1 ${(Q)program/#\~/$HOME} ${socket:+--socket=$socket} --timeout=1 -q "$@" 2>/dev/null </dev/null
}

__holdfastctl_arenas() {
    local -a names=(${${(f)"$(__holdfastctl_ask arenas --no-legend)"}%% *})
    _wanted arenas expl arena compadd -a names
}

# Keys that a line can hold: those that JSON writes without an escape.
__holdfastctl_keys() {
    local prefix=${(Q)PREFIX}
    local -a names=(${(f)"$(__holdfastctl_ask list "$arguments[1]" --keys -j --prefix=$prefix |
        sed -n 's/^"\([^"\\]*\)"$/\1/p' | head -n 200)"})
    _wanted keys expl key compadd -a names
}

# Of that state.
__holdfastctl_checkpoints() {
    local -a ids=(${(f)"$(__holdfastctl_ask checkpoints --json=short | grep -o '{"id":"[^{}]*' |
        grep "\"state\":\"$1\"" | cut -d '"' -f 4)"})
    _wanted checkpoints expl checkpoint compadd -a ids
}

__holdfastctl_methods() {
    local -a names=(${(f)"$(__holdfastctl_ask introspect | sed -n 's/^method \([A-Za-z]*\)(.*/\1/p')"})
    _wanted methods expl method compadd -a names
}

__holdfastctl_held_arenas() {
    local -a names=(${(f)"$(__holdfastctl_ask image info "$arguments[2]" --json=short |
        grep -o '"name":"[^"]*"' | cut -d '"' -f 4)"})
    _wanted arenas expl arena compadd -a names
}

__holdfastctl_verbs() {
    local -a verbs=(
        'status:show how the daemon is'
        'top:watch it'
        'metrics:print what it counts and measures'
        'reload:have it read its configuration again'
        'arenas:list the arenas'
        'create:create an arena'
        'change:change an arena'
        'drop:drop an arena with all that is in it'
        'get:print values'
        'put:set a value'
        'delete:delete an entry'
        'merge:change members of a value'
        'increment:add to an integer'
        'list:list entries'
        'apply:apply operations, all or none'
        'import:put entries read as JSON lines'
        'export:print all entries as JSON lines'
        'checkpoint:take a checkpoint'
        'checkpoints:list checkpoints'
        'cancel:cancel a running checkpoint'
        'verify:check the image of a checkpoint'
        'remove:delete a checkpoint'
        'image:check, describe or print an image'
        'call:call a method'
        'introspect:print an interface'
    )
    _describe -t verbs command verbs
}

_holdfastctl() {
    local -a common=(
        '--socket=[connect to the daemon at this socket]:socket:_files'
        '--json=[print JSON]:mode:(pretty short off)'
        '-j[print JSON]'
        '--no-legend[print no headings]'
        '--no-pager[do not pipe output into a pager]'
        '(-q --quiet)'{-q,--quiet}'[print no progress and no summaries]'
        '--timeout=[give up when it does not answer for so long]:seconds'
        '(-h --help)'{-h,--help}'[show help]'
        '--version[show the version]'
    )
    local -a arena=(
        '--max-bytes=[memory it may occupy]:size'
        '--mode=[who may read and write it]:mode'
        '--group=[its group]:group:_groups'
    )
    local -a revision=('--revision[print the revision too]')
    local -a entry=($revision '--if-revision=[only if its revision is this]:revision')
    local -a prefix=('--prefix=[only keys that begin so]:prefix')
    local program=$words[1] socket word curcontext=$curcontext state line expl
    local -a arguments
    typeset -A opt_args

    for word in "${(@Q)words[2,CURRENT-1]}"; do
        if [[ $state == socket ]]; then
            socket=$word state=
        elif [[ $word == --socket ]]; then
            state=socket
        elif [[ $word == --socket=* ]]; then
            socket=${word#*=}
        fi
    done
    socket=${socket/#\~/$HOME}

    _arguments -C $common '1:command:__holdfastctl_verbs' '*:: :->arguments' && return
    [[ $state == arguments ]] || return
    local verb=$words[1]
    # The arguments so far, for what depends on them.
    for word in "${(@Q)words[2,CURRENT-1]}"; do
        [[ $word == -* ]] || arguments+=("$word")
    done
    case $verb in
        top) _arguments $common '--interval=[time between two screens]:seconds' '--once[print one screen and end]' ;;
        create) _arguments $common $arena '1:new arena:()' ;;
        change) _arguments $common $arena '1:arena:__holdfastctl_arenas' ;;
        drop) _arguments $common '1:arena:__holdfastctl_arenas' ;;
        get) _arguments $common $revision '1:arena:__holdfastctl_arenas' '*:key:__holdfastctl_keys' ;;
        put | merge) _arguments $common $entry '1:arena:__holdfastctl_arenas' '2:key:__holdfastctl_keys' '3:JSON:()' ;;
        delete) _arguments $common $entry '1:arena:__holdfastctl_arenas' '2:key:__holdfastctl_keys' ;;
        increment) _arguments $common $entry '1:arena:__holdfastctl_arenas' '2:key:__holdfastctl_keys' '3:by:()' ;;
        list) _arguments $common $prefix '--keys[keys alone]' '1:arena:__holdfastctl_arenas' ;;
        apply) _arguments $common $revision '1:arena:__holdfastctl_arenas' '2:file:_files' ;;
        import) _arguments $common '--key=[this member is the key]:member' '1:arena:__holdfastctl_arenas' '2:file:_files' ;;
        export) _arguments $common $prefix '1:arena:__holdfastctl_arenas' ;;
        checkpoint) _arguments $common '--label=[give it a label]:label' '--no-wait[return once it runs]' \
            '*:arena:__holdfastctl_arenas' ;;
        cancel) _arguments $common '1:checkpoint: __holdfastctl_checkpoints running' ;;
        verify | remove) _arguments $common '1:checkpoint: __holdfastctl_checkpoints complete' ;;
        image) _arguments $common '--arena=[only this arena]:arena:__holdfastctl_held_arenas' \
            '1:action:(verify info export)' '2:image:_files' ;;
        call) _arguments $common '--more[ask for a stream of replies]' '1:method:__holdfastctl_methods' '2:JSON:()' ;;
        introspect) _arguments $common '1:interface:(io.holdfast org.varlink.service)' ;;
        *) _arguments $common ;;
    esac
}

_holdfastctl "$@"
