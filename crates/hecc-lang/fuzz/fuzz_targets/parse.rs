//! Any bytes are parsed or refused; every diagnostic points into the text.
#![no_main]

use hecc_ir::span::{FileId, SourceMap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (text, _) = hecc_lang::decode(bytes.to_vec(), FileId(0));
    let mut sources = SourceMap::default();
    let file = sources.add("fuzz.hec", text.as_str());
    let (_, diagnostics) = hecc_lang::parse(&text, file);
    assert!(diagnostics.len() <= hecc_lang::MAX_ERRORS + 1);
    for diagnostic in &diagnostics {
        let spans = std::iter::once(&diagnostic.primary).chain(&diagnostic.labels);
        for label in spans {
            let range = label.span.start as usize..label.span.end as usize;
            assert!(text.get(range).is_some(), "{diagnostic:?}");
        }
        diagnostic.render_plain(&sources);
    }
});
