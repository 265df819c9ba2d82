//! The whole stack as processes: it starts, survives kills, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::time::Duration;

use anyhow::Result;
use hbc_testkit::Stack;
use hbc_types::wire::ledger::NodeStatus;

async fn status(stack: &Stack, node: &str) -> Result<NodeStatus> {
    let url = format!("{}/v1/status", stack.url(node));
    Ok(hbc_testkit::http_client().get(url).send().await?.error_for_status()?.json().await?)
}

/// The processes whose command line names this folder.
fn processes_of(folder: &std::path::Path) -> Vec<String> {
    let name = folder.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let line = std::fs::read(path.join("cmdline")).ok()?;
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        let named = text.contains(&name) || String::from_utf8_lossy(&environment).contains(&name);
        named.then_some(text)
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_is_ready_and_nothing_is_left_after_the_end() -> Result<()> {
    let Some(mut stack) = Stack::start().await? else { return Ok(()) };
    let client = hbc_testkit::http_client();
    for name in stack.processes() {
        for path in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
            let response = client.get(format!("{}{path}", stack.url(name))).send().await?;
            assert_eq!(response.status(), 200, "{name}{path}");
        }
    }
    let first = status(&stack, "node-1").await?;
    for node in ["node-2", "node-3", "node-4"] {
        assert_eq!(status(&stack, node).await?.chain, first.chain);
    }
    stack.restart().await?;
    assert_eq!(status(&stack, "node-1").await?.chain, first.chain);
    let folder = stack.dir().to_owned();
    assert!(!processes_of(&folder).is_empty());
    drop(stack);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_come_back_and_so_does_a_killed_supervisor() -> Result<()> {
    let Some(mut stack) = Stack::start().await? else { return Ok(()) };
    for name in ["node-2", "storage", "kubo"] {
        stack.kill(name)?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stack.resume(name)?;
    }
    assert!(stack.log("supervisor").contains("storage ended (signal: 9 (SIGKILL))"));
    stack.stop("node-4")?;
    assert!(status(&stack, "node-4").await.is_err());
    stack.resume("node-4")?;
    stack.crash_and_restart().await?;
    assert_eq!(status(&stack, "node-4").await?.members, 4);
    Ok(())
}
