//! What parses is formatted; the result parses to the same tree and is formatted to itself.
#![no_main]

use hecc_ir::span::FileId;
use libfuzzer_sys::fuzz_target;

/// The tree without places.
fn shape(source: &str) -> String {
    let (tree, diagnostics) = hecc_lang::parse(source, FileId(0));
    assert!(diagnostics.is_empty(), "{source}\n{diagnostics:?}");
    let text = format!("{:?}", tree.items);
    let mut parts = text.split("Span {");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A span ends with the second brace: that of its file comes as `FileId(0)`.
        out.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(formatted) = hecc_lang::format(source) else {
        return;
    };
    assert_eq!(shape(source), shape(&formatted), "{source}\n----\n{formatted}");
    let again = hecc_lang::format(&formatted);
    assert_eq!(again.as_ref(), Ok(&formatted), "{source}");
});
