//! The demonstration is the main job, so it is a test too: it plays to its end and leaves nothing behind.

use std::process::{Command, Stdio};

#[test]
fn the_story_holds_to_its_end_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // With a folder `target` at hand the demonstration works inside it.
    std::fs::create_dir(folder.path().join("target")).unwrap();
    let output = Command::new(hbc_testkit::stack::program().unwrap())
        .arg("demo")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if errors.contains("no IPFS daemon") {
        hbc_testkit::skip(errors.trim());
        return;
    }
    assert!(output.status.success(), "{said}\n{errors}");
    for shown in [
        "of 4 members",
        "records seen                 0",
        "the same read for payment    refused (403)",
        "receipt.json",
        "the very next read           refused",
        "node-3                       healthy",
        "healed in",
        "accepted, final in block",
        "All of it held.",
    ] {
        assert!(said.contains(shown), "`{shown}` is missing in: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("target")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
