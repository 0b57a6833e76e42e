#!/usr/bin/env bash
# 7. CryptoNets: draw a digit, encrypt it, and have it classified by who never sees it.
#    Draw your own: 28 lines of at most 28 characters, `#` for ink, `.` or `'` for half as much.
#    examples/07_encrypted_digit.sh my_digit.txt
set -euo pipefail
drawing=$(realpath "${1:-$(dirname "$0")/digits/three.txt}")
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat "$drawing"

# One row of the image a line, one pixel a number from 0 to 1.
awk '{
    for (i = 1; i <= 28; i++) {
        c = substr($0, i, 1)
        v = c == "#" ? 0.99 : (c == "." || c == "\047") ? 0.5 : 0
        printf "%s%s", v, i < 28 ? "," : "\n"
    }
}
END { for (r = NR; r < 28; r++) { for (i = 1; i < 28; i++) printf "0,"; print "0" } }' \
    "$drawing" | head -n 28 > "$work/image.csv"

# The owner of the image makes the keys and encrypts it. The evaluator has the network, and public keys.
$HECC keygen circuits/cryptonets.hec --circuit batch --out "$work/keys"
$HECC encrypt circuits/cryptonets.hec --circuit batch --secret-key "$work/keys/secret.key" \
    --input "image=@$work/image.csv" --out "$work/image.hecc"
$HECC eval circuits/cryptonets.hec --circuit batch --keys "$work/keys/public" \
    --in "$work/image.hecc" --out "$work/logits.hecc"
$HECC decrypt circuits/cryptonets.hec --circuit batch --secret-key "$work/keys/secret.key" \
    --in "$work/logits.hecc" --output "logits=@$work/logits.csv"

awk '{ printf "%d: %8.3f\n", NR - 1, $1; if (NR == 1 || $1 > most) { most = $1; digit = NR - 1 } }
END { print "This is a " digit "." }' "$work/logits.csv"
