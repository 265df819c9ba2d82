//! The second verifier, which shares no code with the project and was written from docs/FORMATS.md, agrees with it.

use std::path::Path;
use std::process::Command;

#[test]
fn a_verifier_written_from_the_document_agrees() {
    if Command::new("python3").arg("--version").output().is_err() {
        hbc_testkit::skip("the independent verifier: python3 is not installed");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("independent/verify.py");
    let output = Command::new("python3").arg(script).arg("--self-test").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
