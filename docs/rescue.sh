#!/bin/sh
# rescue.sh: gets the data back out of a rerack repository without rerack.
#
#   rescue.sh REPOSITORY list
#       what there is: node, snapshot, sequence, time received, volume, kind, bytes
#   rescue.sh REPOSITORY cat NODE SNAPSHOT VOLUME > FILE
#       a volume's bytes: a tar archive for a files volume, the region itself for a raw one
#   rescue.sh REPOSITORY extract NODE SNAPSHOT VOLUME DIRECTORY
#       a files volume unpacked below DIRECTORY; as root, or owners are lost
#
# SNAPSHOT may be `latest`: the one with the highest sequence.
#
# It needs a POSIX shell with the POSIX tools (awk, dd, od, sort, tail, wc) and zstd and tar. It reads the index at the
# end of every pack, so `placement/` may be lost. It checks no signature and no hash, because no standard tool knows
# them: where rerack runs, use `rerack export`, which checks every byte. docs/format.md describes what is read here.
set -eu
LC_ALL=C
export LC_ALL

die() {
	echo "rescue.sh: $*" >&2
	exit 1
}

usage() {
	sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

# Prints every value of a JSON document with its path, tab-separated: `.volumes.0.name<TAB>root`. Strings hold no raw
# line feeds in JSON, so a token never goes beyond its line. Escapes are left as they are: names have none.
flatten() {
	awk '
	function emit(value,   i, path) {
		for (i = 1; i <= depth; i++) path = path "." key[i]
		print path "\t" value
	}
	{
		rest = $0
		while (1) {
			sub(/^[ \t\r]+/, "", rest)
			if (rest == "") break
			c = substr(rest, 1, 1)
			if (c == "{" || c == "[") {
				kind[++depth] = c
				key[depth] = c == "[" ? 0 : ""
				at_key = c == "{"
			} else if (c == "}" || c == "]") {
				depth--
			} else if (c == ",") {
				if (kind[depth] == "[") key[depth]++
				else at_key = 1
			} else if (c == ":") {
				at_key = 0
			} else {
				if (c == "\"") {
					if (!match(rest, /^"([^"\\]|\\.)*"/)) exit 1
					token = substr(rest, 2, RLENGTH - 2)
				} else {
					match(rest, /^[^]},: \t\r]+/)
					token = substr(rest, 1, RLENGTH)
				}
				rest = substr(rest, RLENGTH + 1)
				if (c == "\"" && kind[depth] == "{" && at_key) key[depth] = token
				else emit(token)
				continue
			}
			rest = substr(rest, 2)
		}
	}' "$1"
}

# The value at a path of a flattened document.
value() {
	awk -F '\t' -v path="$2" '$1 == path { print $2; found = 1; exit } END { exit !found }' "$1"
}

hex_bytes() {
	od -A n -v -t x1
}

# What is shared by those who read binary layouts, a record at a time: bytes come as hexadecimal pairs, numbers are
# little-endian. `take` is called with each record of `need` bytes in b[0], b[1], ...
awk_records='
	function byte(pair) {
		return (index("0123456789abcdef", substr(pair, 1, 1)) - 1) * 16 + index("0123456789abcdef", substr(pair, 2, 1)) - 1
	}
	function number(from, count,   i, sum) {
		for (i = count - 1; i >= 0; i--) sum = sum * 256 + byte(b[from + i])
		return sum + 0
	}
	function text(from, count,   i, all) {
		for (i = 0; i < count; i++) all = all b[from + i]
		return all
	}
	{
		for (i = 1; i <= NF; i++) {
			b[n++] = $i
			if (n == need) { take(); taken++; n = 0 }
		}
	}
'

# Prints `chunk pack offset stored_length content_length` for every chunk of every pack.
index_packs() {
	for pack in "$repository"/packs/*/*; do
		case $pack in *'#'*) continue ;; esac
		[ -f "$pack" ] || continue
		size=$(wc -c <"$pack")
		length=$(tail -c 12 "$pack" | hex_bytes | awk "$awk_records"'
			function take() { if (text(4, 8) == "52525041434b3031") length_ = number(0, 4) }
			BEGIN { need = 12 }
			END { print length_ + 0 }')
		if [ "$length" -lt 68 ] || [ "$length" -gt "$size" ]; then
			echo "rescue.sh: $pack has no index; what it holds is left out" >&2
			continue
		fi
		tail -c "$length" "$pack" | hex_bytes | awk -v pack="${pack#"$repository"/}" "$awk_records"'
			function take(   stored) {
				if (taken == 0) {
					# The header: magic, version, cipher suite 0, number of rows.
					if (text(0, 8) != "52525041434b3031" || number(8, 2) != 1 || b[10] != "00") exit
					rows = number(12, 4)
					need = 40
				} else if (taken <= rows) {
					stored = number(32, 4)
					print text(0, 32), pack, offset + 0, stored, number(36, 4)
					offset += stored
				}
			}
			BEGIN { need = 16 }
			END {
				# The trailer has 12 bytes: less than a row.
				if (rows == 0 || taken != rows + 1 || n != 12)
					print "rescue.sh: the index of " pack " is not one this script reads" > "/dev/stderr"
			}'
	done
}

# Prints `chunk content_length` for every row of a list segment.
list_rows() {
	hex_bytes <"$1" | awk "$awk_records"'
		function take() {
			if (taken > 0) print text(8, 32), number(4, 4)
			else if (text(0, 8) == "52524c4953543031" && number(8, 2) == 1 && number(10, 2) == 64) rows = number(12, 4)
			else exit
		}
		BEGIN { need = 64 }
		END { exit !(rows > 0 && taken == rows + 1 && n == 0) }'
}

# Writes the reads that make up the volume, in order, to $work/reads: `pack offset length`. What lies together is read
# at once, up to 32 MiB.
plan_reads() {
	awk -v content_bytes="$stream_bytes" '
		function flush() { if (length_ > 0) print pack, start, length_ }
		NR == FNR { if (!($1 in place)) place[$1] = $2 " " $3 " " $4 " " $5; next }
		{
			if (!($1 in place)) { print "rescue.sh: chunk " $1 " lies in no pack" > "/dev/stderr"; lost = 1; next }
			split(place[$1], p, " ")
			if (p[4] != $2) { print "rescue.sh: chunk " $1 " has the wrong length" > "/dev/stderr"; lost = 1; next }
			sum += $2
			if (p[1] == pack && p[2] == start + length_ && length_ + p[3] <= 33554432) { length_ += p[3]; next }
			flush()
			pack = p[1]; start = p[2] + 0; length_ = p[3] + 0
		}
		END {
			flush()
			if (!lost && sum != content_bytes) {
				print "rescue.sh: the list adds up to " sum " bytes, the manifest says " content_bytes > "/dev/stderr"
				lost = 1
			}
			exit lost
		}' "$work/index" "$work/rows" >"$work/reads"
}

# Writes the frames of the volume in order. Two dd share one open file: the first moves its offset, the second reads
# the whole piece with one read.
frames() {
	while read -r pack start length; do
		{
			[ "$start" -eq 0 ] || dd bs="$start" skip=1 count=0 2>/dev/null
			dd bs="$length" count=1 2>/dev/null
		} <"$repository/$pack" || return 1
	done <"$work/reads"
	: >"$work/all-read"
}

snapshot_of() {
	case $2 in
	latest)
		for receipt in "$repository/snapshots/$1"/*/receipt.json; do
			[ -f "$receipt" ] || continue
			flatten "$receipt" >"$work/receipt"
			echo "$(value "$work/receipt" .document.sequence) $(value "$work/receipt" .document.snapshot)"
		done | sort -n | tail -n 1 | cut -d ' ' -f 2
		;;
	*) echo "$2" ;;
	esac
}

# Prints the numbers of a flattened manifest's volumes.
volume_numbers() {
	awk -F '[.\t]' '$2 == "volumes" && $4 == "name" { print $3 }' "$1"
}

list_all() {
	for receipt in "$repository"/snapshots/*/*/receipt.json; do
		[ -f "$receipt" ] || continue
		flatten "$receipt" >"$work/receipt"
		flatten "${receipt%/*}/manifest.json" >"$work/manifest"
		for number in $(volume_numbers "$work/manifest"); do
			printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
				"$(value "$work/receipt" .document.node)" \
				"$(value "$work/receipt" .document.snapshot)" \
				"$(value "$work/receipt" .document.sequence)" \
				"$(value "$work/receipt" .document.received_at)" \
				"$(value "$work/manifest" ".volumes.$number.name")" \
				"$(value "$work/manifest" ".volumes.$number.volume.kind")" \
				"$(value "$work/manifest" ".volumes.$number.stream_bytes")"
		done
	done
}

# Finds the volume, its list and its chunks; everything that is missing is said here, before any byte is written.
prepare() {
	node=$1
	snapshot=$(snapshot_of "$1" "$2")
	case $node/$snapshot in */ | *..* | */*/*) die "$1 has no snapshot $2" ;; esac
	manifest=$repository/snapshots/$node/$snapshot/manifest.json
	[ -f "${manifest%/*}/receipt.json" ] || die "$node has no snapshot $snapshot; \`list\` shows what there is"
	flatten "$manifest" >"$work/manifest"
	number=
	for candidate in $(volume_numbers "$work/manifest"); do
		[ "$(value "$work/manifest" ".volumes.$candidate.name")" != "$3" ] || number=$candidate
	done
	[ -n "$number" ] || die "snapshot $snapshot of $node has no volume $3; \`list\` shows what there is"
	kind=$(value "$work/manifest" ".volumes.$number.volume.kind")
	stream_bytes=$(value "$work/manifest" ".volumes.$number.stream_bytes")
	awk -F '[.\t]' -v number="$number" '$2 == "volumes" && $3 == number && $4 == "lists" { print $6 }' \
		"$work/manifest" >"$work/lists"
	while read -r list; do
		case $list in *[!0-9a-f]*) die "the manifest names a list that is no hash" ;; esac
		[ -f "$repository/lists/$list" ] || die "lists/$list is missing"
		list_rows "$repository/lists/$list" || die "lists/$list is not a list this script reads"
	done <"$work/lists" >"$work/rows"
	index_packs >"$work/index"
	plan_reads || die "volume $3 cannot be rebuilt whole"
}

[ $# -ge 2 ] || usage
repository=${1%/}
command=$2
shift 2
[ -f "$repository/repository.json" ] || die "$repository holds no repository: it has no repository.json"
umask 077
work=${TMPDIR:-/tmp}/rescue.$$
mkdir "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

case $command in
list)
	[ $# -eq 0 ] || usage
	list_all
	;;
cat)
	[ $# -eq 3 ] || usage
	prepare "$@"
	frames | zstd -q -d -c || die "a pack is damaged: the output is not whole"
	[ -f "$work/all-read" ] || die "a pack could not be read: the output is not whole"
	;;
extract)
	[ $# -eq 4 ] || usage
	prepare "$1" "$2" "$3"
	[ "$kind" = files ] || die "volume $3 holds no files; use \`cat\`"
	[ -d "$4" ] || die "$4 is no directory"
	case $(tar --version 2>/dev/null) in
	*'GNU tar'*) set -- "$4" --numeric-owner --xattrs '--xattrs-include=*' ;;
	*) set -- "$4" ;;
	esac
	directory=$1
	shift
	frames | { zstd -q -d -c && : >"$work/all-decoded"; } | tar "$@" -C "$directory" -xpf - ||
		die "tar did not unpack everything"
	[ -f "$work/all-read" ] || die "a pack could not be read: not everything was unpacked"
	[ -f "$work/all-decoded" ] || die "a pack is damaged: not everything was unpacked"
	;;
*) usage ;;
esac
