#!/usr/bin/env bash
# 3. The same as separate parties, with files: the evaluator never sees a secret key.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
circuit=circuits/quartic.hec

# The client makes keys. keys/secret.key stays; keys/public goes to the others.
$HECC keygen "$circuit" --out "$work/keys"

# Whoever has the public keys can encrypt.
$HECC encrypt "$circuit" --keys "$work/keys/public" \
    --input x=@circuits/data/x1024.json --out "$work/in.hecc"

# The evaluator has the circuit, the public keys and the encrypted inputs.
$HECC eval "$circuit" --keys "$work/keys/public" --in "$work/in.hecc" --out "$work/out.hecc"

# The client decrypts.
$HECC decrypt "$circuit" --secret-key "$work/keys/secret.key" --in "$work/out.hecc"
