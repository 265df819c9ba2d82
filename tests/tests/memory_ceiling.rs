//! Whatever arrives, a service keeps its size: bodies that inflate, bodies that never end, answers that nobody reads.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use hbc_tests::{Person, TestApp, wait};
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

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
    assert_sizes(&app)
}

/// The processes that are watched: one of each service.
const SERVICES: [&str; 4] = ["auth", "access-policy", "storage", "node-1"];

/// Each service was at most so large.
fn assert_sizes(app: &TestApp) -> Result<()> {
    for name in SERVICES {
        let held = high_water(app, name)?;
        println!("{name}: {} MiB at most", held / 1024);
        assert!(held < CEILING_KIB, "{name} held {held} KiB");
    }
    Ok(())
}

/// Another host than the tests': an address of its own on this machine.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long the document is that they ask for: more than the system buffers for a connection.
const DOCUMENT: usize = 5 << 20;
/// Callers that ask for it: together more than an address may hold.
const DOCUMENTS: usize = 25;
/// Callers of each service that ask for other things.
const UNREAD: usize = 200;

/// Connections that take nothing are closed sooner than usual.
fn patience_of_twenty_seconds(dir: &Path) -> Result<()> {
    for name in SERVICES {
        let file = dir.join(format!("config/{name}.toml"));
        let usual = std::fs::read_to_string(&file)?;
        assert!(usual.contains("unread_seconds = 30\n"), "{name}");
        std::fs::write(&file, usual.replace("unread_seconds = 30\n", "unread_seconds = 20\n"))?;
    }
    Ok(())
}

/// Asks from another address for something large, and reads none of it.
async fn asks_and_never_reads(url: &str, token: &str) -> Result<tokio::net::TcpStream> {
    let (address, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("a URL")?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::from((ELSEWHERE, 0)))?;
    let mut stream = socket.connect(address.parse()?).await?;
    let head = format!(
        "GET /{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Median and 99th percentile of the time that a list takes.
async fn times_of_lists(app: &TestApp, patient: &Person) -> Result<(Duration, Duration)> {
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        app.list(patient, patient.patient()?.as_str(), "PATRQT").await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((*times.get(50).context("a median")?, *times.get(98).context("a percentile")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_leave_every_service_its_size() -> Result<()> {
    let Some(app) = TestApp::start_with(patience_of_twenty_seconds).await? else { return Ok(()) };
    let patient = app.patient().await?;
    let stack = app.stack();
    let large = app.upload(&patient, &[b"%PDF".as_slice(), &[b'x'; DOCUMENT]].concat()).await?;
    let nodes = stack.nodes();
    let node = nodes.first().context("a node")?;
    let document = format!("{}/v1/records/{}/content", stack.storage(), large.id);
    let large = [
        format!("{}/openapi.json", stack.storage()),
        format!("{}/openapi.json", stack.auth()),
        format!("{}/openapi.json", stack.access_policy()),
        format!("{node}/v1/blocks?from=0&limit=100"),
    ];
    let alone = times_of_lists(&app, &patient).await?;
    let mut unread = Vec::new();
    for (url, callers) in std::iter::once((&document, DOCUMENTS)).chain(large.iter().map(|url| (url, UNREAD)))
    {
        for asked in join_all((0..callers).map(|_| asks_and_never_reads(url, patient.token()))).await {
            unread.push(asked?);
        }
    }
    // Whoever comes from somewhere else is served as if they were not there.
    let beside = times_of_lists(&app, &patient).await?;
    println!("a list takes {alone:?} alone, {beside:?} beside {} unread answers (median, p99)", unread.len());
    assert!(beside.1 < Duration::from_secs(1).max(alone.1 * 3), "{beside:?}");
    assert_sizes(&app)?;
    // What they hold is theirs for no longer than that: then they are cut off, and all of it is free again.
    let mut begun = Vec::new();
    for stream in unread.iter_mut().take(DOCUMENTS) {
        let mut status = [0; 12];
        let read = stream.read_exact(&mut status).await;
        begun.push(read.is_err() || status == *b"HTTP/1.1 200");
    }
    let metrics = format!("{}/metrics", stack.storage());
    wait::until("nothing is on its way", async || {
        let text = app.http.get(&metrics).send().await?.text().await?;
        Ok(text.contains("hbc_in_flight_bytes{of=\"answers\"} 0\n").then_some(()))
    })
    .await?;
    for (stream, begun) in unread.iter_mut().zip(&begun) {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).await;
        assert!(!begun || ended.is_err() || rest.len() < DOCUMENT, "a whole answer after so long");
    }
    let refused = begun.iter().filter(|begun| !**begun).count();
    println!("{refused} of {DOCUMENTS} were told to come again, the others were cut off");
    assert!(refused > 0 && refused < DOCUMENTS);
    Ok(())
}
