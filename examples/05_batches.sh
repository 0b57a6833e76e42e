#!/usr/bin/env bash
# 5. Many instances at once: one ciphertext a scalar, one instance a slot, and no rotation.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/score.hec" <<'HEC'
/// A score of three measurements, for up to 1024 people at once.
@batch(1024)
circuit score(x: secret real[3] in [-1, 1]) -> s: real {
    return 0.5 * x[0] * x[1] - 0.25 * x[2]^2 + 0.1;
}
HEC

# One instance has the declared shape; a file of many has one more axis, here rows of a .csv.
$HECC run "$work/score.hec" --input 'x=[0.5, -0.5, 1]'
printf '0.5,-0.5,1\n1,1,0\n-1,0.25,0.75\n' > "$work/people.csv"
$HECC run "$work/score.hec" --input "x=@$work/people.csv" --output "s=@$work/scores.npy"
test -s "$work/scores.npy"
