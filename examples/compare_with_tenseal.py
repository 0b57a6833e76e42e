#!/usr/bin/env python3
"""Times hecc beside TenSEAL on this machine, in one run, and checks both results.

    python3 -m venv /tmp/tenseal && /tmp/tenseal/bin/pip install tenseal
    /tmp/tenseal/bin/python examples/compare_with_tenseal.py

Tasks, N = 8192, 128-bit security, scale 2^40, one thread:
  x^4+2          over all 4096 slots; primes of 49, 40 and 40 bits and a special one of 49
  matrix-vector  a public 128x128 matrix times an encrypted vector; primes of 49 and 40 bits, special 49

"evaluate" is what the evaluator does, the matrix of hecc encoded before (TenSEAL encodes it inside);
"everything" adds encoding, encryption, decryption and, for hecc too, the encoding of the matrix. Key
generation is in neither. Milliseconds, least of several runs that alternate between the two libraries. Exit status 1 when a
result is wrong, 2 when something is missing.
"""

import json
import pathlib
import subprocess
import sys
import time

try:
    import tenseal as ts
except ImportError:
    print(
        "compare_with_tenseal: Python finds no module `tenseal`: install it with "
        "`pip install tenseal` (wheels are on PyPI), or run this script with a Python that has it",
        file=sys.stderr,
    )
    sys.exit(2)

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ["cargo", "run", "--release", "--quiet", "-p", "hecc-ckks", "--example", "tasks"]
ROUNDS = 3
SCALE = 2.0**40
SLOTS = 4096
SIZE = 128


def least(runs, f):
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        f()
        best = min(best, (time.perf_counter() - start) * 1e3)
    return best


def check(task, got, expected):
    worst = max(abs(g - e) for g, e in zip(got, expected))
    if len(got) < len(expected) or not worst < 1e-4:
        print(f"compare_with_tenseal: {task}: TenSEAL's result is wrong by {worst}", file=sys.stderr)
        sys.exit(1)
    return worst


def context(bits, galois):
    made = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=bits, n_threads=1)
    made.global_scale = SCALE
    if galois:
        made.generate_galois_keys()
    return made


def tenseal_quartic():
    made = context([49, 40, 40, 49], False)
    values = [((i * 37 % 1000) - 500.0) / 500.0 for i in range(SLOTS)]
    x = ts.ckks_vector(made, values)

    # The quickest way to write it: the polynomial interface takes a general path.
    def evaluate(x):
        square = x.square()
        return square.square() + 2

    error = check("x^4+2", evaluate(x).decrypt(), [v**4 + 2 for v in values])
    return {
        "evaluate_ms": least(30, lambda: evaluate(x)),
        "all_ms": least(10, lambda: evaluate(ts.ckks_vector(made, values)).decrypt()),
        "max_error": error,
    }


def tenseal_matrix():
    made = context([49, 40, 49], True)
    matrix = [[((i * SIZE + j) * 7919 % 1009 - 504.0) / 504.0 for j in range(SIZE)] for i in range(SIZE)]
    vector = [((i * 37 % 101) - 50.0) / 50.0 for i in range(SIZE)]
    x = ts.ckks_vector(made, vector)
    # TenSEAL multiplies a row vector by a matrix.
    turned = [list(column) for column in zip(*matrix)]
    expected = [sum(m * v for m, v in zip(row, vector)) for row in matrix]
    error = check("matrix-vector", x.matmul(turned).decrypt(), expected)
    return {
        "evaluate_ms": least(2, lambda: x.matmul(turned)),
        "all_ms": least(2, lambda: ts.ckks_vector(made, vector).matmul(turned).decrypt()),
        "max_error": error,
    }


def hecc():
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"compare_with_tenseal: `{' '.join(COMMAND)}` failed:\n{done.stderr}", file=sys.stderr)
        sys.exit(1 if "wrong by" in done.stderr else 2)
    return {task["task"]: task for task in map(json.loads, done.stdout.splitlines())}


def better(old, new):
    if old is None:
        return new
    return {key: min(old[key], new[key]) if key.endswith("_ms") else new[key] for key in new}


def main():
    try:
        subprocess.run(COMMAND[:1] + ["--version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("compare_with_tenseal: there is no `cargo`: install Rust from https://rustup.rs", file=sys.stderr)
        sys.exit(2)
    best = {}
    for _ in range(ROUNDS):
        ours = hecc()
        theirs = {"x^4+2": tenseal_quartic(), "matrix-vector": tenseal_matrix()}
        for task in theirs:
            for name, result in (("hecc", ours[task]), ("TenSEAL", theirs[task])):
                best[task, name] = better(best.get((task, name)), result)
    print(f"TenSEAL {ts.__version__}; milliseconds, least of {ROUNDS} rounds")
    print(f"{'':16}{'evaluate':>30}{'everything':>33}{'largest error':>24}")
    print(f"{'task':16}" + f"{'hecc':>10}{'TenSEAL':>11}{'ratio':>9}" + f"{'hecc':>13}{'TenSEAL':>11}{'ratio':>9}" + f"{'hecc':>14}{'TenSEAL':>10}")
    for task in ("x^4+2", "matrix-vector"):
        a, b = best[task, "hecc"], best[task, "TenSEAL"]
        row = f"{task:16}"
        for key, pad in (("evaluate_ms", 10), ("all_ms", 13)):
            row += f"{a[key]:>{pad}.2f}{b[key]:>11.2f}{b[key] / a[key]:>8.1f}x"
        print(row + f"{a['max_error']:>14.1e}{b['max_error']:>10.1e}")


if __name__ == "__main__":
    main()
