use super::format;

fn check(source: &str, expected: &str) {
    let found = format(source).unwrap_or_else(|d| panic!("{d:?}"));
    assert_eq!(found, expected);
    let again = format(&found).unwrap_or_else(|d| panic!("{found}\n{d:?}"));
    assert_eq!(again, expected, "formatted twice");
}

#[test]
fn spacing() {
    check(
        "const  A:real[2,3]=load( \"w.npy\" ) ;fn f(a,b)=-a^2*b'@b [0 ,1 .. 2]-(- a);",
        "const A: real[2, 3] = load(\"w.npy\");\nfn f(a, b) = -a^2 * b' @ b[0, 1..2] - (-a);\n",
    );
    check("", "");
    check(
        "\u{FEFF}const A = 1;\r\n\r\n\r\n\r\nconst B = 2;\r\n",
        "const A = 1;\n\nconst B = 2;\n",
    );
}

#[test]
fn blocks() {
    check(
        "@keep @batch(4) circuit f(x:secret real in[-1,1])->(a:real,b:real in [0,1]){var y=x;@unroll(2) for i in 0..3{y=y*y;\n\n\nif i==2&&true{y=-y;}else if !(i>1){}else{assert(i>0,\"t\");}}@keep let z in [0,1]=y;return(y,z);}const N=1;",
        "@keep
@batch(4)
circuit f(x: secret real in [-1, 1]) -> (a: real, b: real in [0, 1]) {
    var y = x;
    @unroll(2)
    for i in 0..3 {
        y = y * y;

        if i == 2 && true {
            y = -y;
        } else if !(i > 1) {} else {
            assert(i > 0, \"t\");
        }
    }
    @keep let z in [0, 1] = y;
    return (y, z);
}

const N = 1;
",
    );
}

#[test]
fn comments_stay() {
    check(
        "// head\n\n/// doc\nconst A = [1, // one\n // two\n 2 // last\n ] // after\n; // end\n// tail\nfn f(x) { // open\n // own\n return x // why\n + 1; // ret\n // close\n}\n",
        "// head

/// doc
const A = [
    1, // one
    // two
    2, // last
]; // after
// end

// tail
fn f(x) { // open
    // own
    return x // why
        + 1; // ret
    // close
}
",
    );
}

#[test]
fn long_lines_are_broken() {
    check(
        "circuit train(Z: secret real[STEPS, BATCH, FEATURES] in [-1, 1], w0: secret real[FEATURES] in [-1, 1]) -> w: real[FEATURES] { let aaaaaaaaaaaaaaaaaaaaaaaaaaaa = bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb * cccccccccccccccccccccccccc + ddddddddddddddddddd; return w0; }",
        "circuit train(
    Z: secret real[STEPS, BATCH, FEATURES] in [-1, 1],
    w0: secret real[FEATURES] in [-1, 1],
) -> w: real[FEATURES] {
    let aaaaaaaaaaaaaaaaaaaaaaaaaaaa = bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
            * cccccccccccccccccccccccccc
        + ddddddddddddddddddd;
    return w0;
}
",
    );
    let numbers: Vec<String> = (0..40).map(|i| format!("-0.{i:03}")).collect();
    let found = format(&format!("const A = [{}];", numbers.join(","))).expect("parses");
    assert!(found.lines().all(|l| l.len() <= 100), "{found}");
    assert_eq!(found.lines().count(), 6, "{found}");
    assert_eq!(format(&found).expect("parses"), found);
}

#[test]
fn errors_are_returned() {
    assert!(format("const A = ;").is_err());
}
