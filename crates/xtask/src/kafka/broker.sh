# Runs a broker in the foreground. Arguments: its folder, the program that sends, the messages to send, and how the broker is run.
folder=$1 program=$2 messages=$3
shift 3
"$@" </dev/null >"$folder/log" 2>&1 &
broker=$!
end() {
  trap '' INT TERM HUP
  # What it has stored goes away, so that there is nothing to wait for.
  kill -KILL "$broker"
  wait "$broker"
  rm -rf "$folder"
}
trap 'end 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
failed() {
  tail -n 20 "$folder/log" >&2
  echo "error: $1" >&2
  exit 1
}
until grep -q 'Kafka Server started' "$folder/log"; do
  kill -0 "$broker" 2>/dev/null || failed 'the broker did not start; above is what it said'
  sleep 0.1
done
"$program" kafka --send "$messages" || exit 1
cat "$folder/next"
wait "$broker"
failed 'the broker ended; above is what it said'
