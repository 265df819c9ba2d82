//! Whatever arrives, a service keeps its size: bodies that inflate, bodies that never end, texts of nothing but values.

use std::io::Write as _;
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use hbc_tests::TestApp;
use reqwest::{Client, StatusCode};

/// What no service may ever have held.
const CEILING_KIB: u64 = 300 * 1024;

/// The most that a process ever had in memory, in KiB.
fn high_water(app: &TestApp, name: &str) -> Result<u64> {
    let recorded = std::fs::read_to_string(app.stack().dir().join(format!("run/{name}.pid")))?;
    let pid = recorded.split_whitespace().next().context("a process id")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("the high-water mark")?;
    Ok(line.split_whitespace().nth(1).context("a figure")?.parse()?)
}

/// Some kilobytes that become `bytes` of JSON: nothing but zeros in a list.
fn bomb(bytes: usize) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(br#"{"resourceType":"Observation","extension":["#)?;
    let zeros = "0,".repeat(32 * 1024);
    for _ in 0..bytes / zeros.len() {
        encoder.write_all(zeros.as_bytes())?;
    }
    encoder.write_all(b"0]}")?;
    Ok(encoder.finish()?)
}

/// A request that says it is large, and stops in the middle.
fn half_a_body(base: &str, path: &str) -> Result<TcpStream> {
    let address = base.strip_prefix("http://").context("a plain address")?;
    let mut socket = TcpStream::connect(address)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 500000\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(&vec![b' '; 100_000])?;
    Ok(socket)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the project's client neither gzips nor stops halfway")]
async fn bombs_and_half_bodies_leave_every_service_its_size() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let http = Client::builder().no_proxy().build()?;
    let stack = app.stack();
    let bomb = bomb(60 << 20)?;
    assert!(bomb.len() < 256 << 10, "{}", bomb.len());
    // Nobody but storage takes gzip, and what is sent to it counts while it grows.
    let nodes = stack.nodes();
    let plain_only = [
        format!("{}/v1/sessions", stack.auth()),
        format!("{}/v1/explain", stack.access_policy()),
        format!("{}/v1/transactions/batch", nodes.first().context("a node")?),
    ];
    let send = |url: String| {
        let request = http.post(url).header("content-type", "application/json");
        request.header("content-encoding", "gzip").body(bomb.clone()).bearer_auth(patient.token()).send()
    };
    for url in plain_only {
        for answer in join_all((0..16).map(|_| send(url.clone()))).await {
            assert_eq!(answer?.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{url}");
        }
    }
    let observation = format!("{}/fhir/Observation", stack.storage());
    let answers = join_all((0..50).map(|_| send(observation.clone()))).await;
    for answer in answers {
        let answer = answer?;
        let status = answer.status();
        assert!([StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
        assert_eq!(status == StatusCode::SERVICE_UNAVAILABLE, answer.headers().contains_key("retry-after"));
    }
    // Two hundred that never end, and whoever comes meanwhile is served.
    let halves: Vec<TcpStream> = (0..100)
        .flat_map(|_| {
            [half_a_body(stack.storage(), "/fhir/Observation"), half_a_body(stack.auth(), "/v1/sessions")]
        })
        .collect::<Result<_>>()?;
    app.upload(&patient, b"%PDF a letter").await?;
    app.patient().await?;
    drop(halves);
    for name in ["auth", "access-policy", "storage", "node-1"] {
        let held = high_water(&app, name)?;
        println!("{name}: {} MiB at most", held / 1024);
        assert!(held < CEILING_KIB, "{name} held {held} KiB");
    }
    Ok(())
}
