#!/usr/bin/env bash
# 8. Logistic regression trained on encrypted samples: four steps of Nesterov's accelerated gradient
#    over four minibatches. Whoever trains sees neither the samples nor the weights.
#    Data of your own: .csv with numbers about as large as 1, and the label, 0 or 1, in the last column.
#    examples/08_encrypted_training.sh train.csv test.csv
set -euo pipefail
here=$(dirname "$0")
train=$(realpath "${1:-$here/training/train.csv}")
test=$(realpath "${2:-$here/training/test.csv}")
cd "$here/.."
HECC=${HECC:-cargo run --quiet --release --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The sizes of the data. A rate of 4 over the mean squared length of the samples is the largest
# for which a step cannot overshoot: the second derivative of the loss is at most a quarter of it.
mkdir -p "$work/examples/training" "$work/circuits"
cp -r circuits/lib "$work/circuits/"
cp examples/training/train.hec "$work/examples/training/"
circuit=$work/examples/training/train.hec
awk -F, '$1 + 0 != $1 { next }       # a line of titles
    { rows++; for (i = 1; i < NF; i++) { length2 += $i * $i
        if ($i > most) most = $i; if (-$i > most) most = -$i } }
    END {
        printf "const STEPS = 4;\nconst BATCH = %d;\nconst FEATURES = %d;\n", rows / 4, NF - 1
        printf "const RATE = %.4f;\nconst LARGEST = %d;\nconst MARGIN = 8;\n",
            4 / (1 + length2 / rows), most < 1 ? 1 : most + 1
    }' "$train" > "$work/examples/training/data.hec"
cat "$work/examples/training/data.hec"

# The client: labels are folded into the samples in the clear, on its own machine; then it makes
# keys and encrypts. It also computes products of its own samples, which saves the server levels.
rows=$(awk -F, '$1 + 0 == $1' "$train" | wc -l)
awk -F, '$1 + 0 == $1' "$train" | head -n $((rows / 4 * 4)) > "$work/rows.csv"
$HECC run "$circuit" --circuit fold --backend clear \
    --input "rows=@$work/rows.csv" --output "Z=@$work/Z.npy" --format json > "$work/fold.json"
zeros=$(awk -F, 'NR == 1 { printf "[0"; for (i = 1; i < NF; i++) printf ",0"; print "]" }' "$work/rows.csv")
$HECC compile "$circuit" --circuit train | sed '/^pass /,$d'
$HECC keygen "$circuit" --circuit train --out "$work/keys"
$HECC encrypt "$circuit" --circuit train --secret-key "$work/keys/secret.key" \
    --input "Z=@$work/Z.npy" --input "w0=$zeros" --out "$work/samples.hecc"

# The server: no secret key, no sample.
$HECC eval "$circuit" --circuit train --keys "$work/keys/public" \
    --in "$work/samples.hecc" --out "$work/weights.hecc"

# The client decrypts the weights and tries them.
$HECC decrypt "$circuit" --circuit train --secret-key "$work/keys/secret.key" \
    --in "$work/weights.hecc" --output "w=@$work/w.csv"
awk -F, 'NR == FNR { w[NR - 1] = $1; next }
    $1 + 0 != $1 { next }
    { margin = w[0]; for (i = 1; i < NF; i++) margin += w[i] * $i
      rows++; right += (margin > 0) == ($NF > 0) }
    END { printf "%d of %d test samples right: %.1f %%\n", right, rows, 100 * right / rows }' \
    "$work/w.csv" "$test"
