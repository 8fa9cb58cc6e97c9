# bash completion for tealctl(1)
#
# Services, colors and addresses come from the teal that runs, when it answers.

_tealctl_names() {	# names of the services, or nothing
	tealctl ${socket:+-s "$socket"} --json status 2>/dev/null |
		sed -n 's/^      "name": "\(.*\)",$/\1/p'
}

_tealctl_addresses() {	# _tealctl_addresses: of every backend
	tealctl ${socket:+-s "$socket"} --json status 2>/dev/null |
		sed -n 's/^ *"address": "\(.*\)",$/\1/p'
}

_tealctl_options() {	# _tealctl_options COMMAND SUBCOMMAND: what the command takes
	local change='--reason --if-epoch' plan='--to --steps --rearm' wait='--wait --timeout'

	echo '--socket --json --help'
	case $1/$2 in
	status/*) echo '--watch' ;;
	rollout/start) echo "$change $plan $wait" ;;
	rollout/resume) echo "$change $wait" ;;
	rollout/promote) echo "$change $wait --full" ;;
	deploy/*) echo "$change $plan $wait --backends" ;;
	weight/* | flip/* | backend/* | maintenance/* | rearm/* | rollout/*) echo "$change" ;;
	esac
}

_tealctl() {
	local cur prev words cword socket='' i
	local -a given=()
	_init_completion -n : 2>/dev/null || {
		cur=${COMP_WORDS[COMP_CWORD]}
		prev=${COMP_WORDS[COMP_CWORD-1]}
		words=("${COMP_WORDS[@]}")
		cword=$COMP_CWORD
	}

	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		-s | --socket) socket=${words[++i]} ;;
		--reason | --if-epoch | --to | --steps | --timeout | --backends) ((i++)) ;;
		-*) ;;
		*) given+=("${words[i]}") ;;
		esac
	done

	local choices
	case $prev in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--to) choices='blue green' ;;
	--steps) choices='25:5m,50:5m,100:10m' ;;
	--timeout) choices='10m 1h' ;;
	--reason | --if-epoch | --backends) return ;;
	*)
		if [[ $cur == -* ]]; then
			choices=$(_tealctl_options "${given[0]}" "${given[1]}")
		else
			case ${given[0]}/${#given[@]} in
			/0)
				choices='status weight flip backend rollout deploy rearm why history'
				choices+=' events maintenance metrics version'
				;;
			status/1 | weight/1 | rearm/1 | why/1 | history/1 | deploy/1)
				choices=$(_tealctl_names)
				;;
			flip/1) choices="blue green $(_tealctl_names)" ;;
			flip/2) choices='blue green' ;;
			maintenance/1) choices='on off' ;;
			maintenance/2 | rollout/2) choices=$(_tealctl_names) ;;
			rollout/1) choices='start pause resume promote abort' ;;
			backend/1) choices='add remove drain undrain set' ;;
			backend/2) choices="blue green $(_tealctl_names)" ;;
			backend/3)
				choices=$(_tealctl_addresses)
				[[ ${given[2]} == blue || ${given[2]} == green ]] || choices='blue green'
				;;
			backend/*) choices=$(_tealctl_addresses) ;;
			esac
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
	# a colon splits words in bash: give only what follows the last one typed
	type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$cur"
}
complete -F _tealctl tealctl
