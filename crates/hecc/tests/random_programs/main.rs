//! Random programs.
mod generate;
fn main() {
    let seed: u64 = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    for s in seed..seed + 3 {
        let p = generate::program(
            s,
            generate::Size {
                statements: 4,
                levels: 6,
                extent: 4,
            },
        );
        println!("{}\n{:?}\n{:?}", p.source, p.inputs, p.outputs);
    }
}
