//! Passkeys in a real browser: a virtual authenticator of Chromium's makes one, opens a session with it, and opens the
//! patient's root key with the secret that it derives.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use ed25519_dalek::SigningKey;
use hbc_client::operations::auth;
use hbc_tests::wallet::Wallet;
use hbc_tests::{Person, TestApp, chain, tools};
use hbc_types::account::Custody;
use hbc_types::labels::Category;
use hbc_types::wire::auth::{Me, Sessions, Tokens};
use hbc_types::wire::passkeys::Passkeys;
use serde::Deserialize;
use serde_json::json;

const PAGE: &str = "<!doctype html><title>Passkeys</title>";

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut asked = [0; 4096];
    if stream.read(&mut asked)? == 0 {
        return Ok(());
    }
    let length = PAGE.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PAGE}"
    )
}

/// What the program in the browser says.
#[derive(Deserialize)]
struct Said {
    tokens: Tokens,
    seed: String,
}

/// Serves an empty page as long as the test runs; answers its origin.
fn serve_page() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        // A browser opens connections that it does not use at once.
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(format!("http://localhost:{port}"))
}

/// Lets pages of this origin use passkeys.
fn allow(dir: &Path, origin: &str) -> Result<()> {
    let file = dir.join("config/auth.toml");
    let mut config: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    let webauthn = config.get_mut("webauthn").and_then(toml::Value::as_table_mut);
    let webauthn = webauthn.context("a fresh deployment has no passkeys")?;
    assert_eq!(webauthn.get("rp_id").and_then(toml::Value::as_str), Some("localhost"));
    webauthn.insert("origins".to_owned(), vec![origin.to_owned()].into());
    Ok(std::fs::write(file, toml::to_string(&config)?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_makes_a_passkey_signs_in_with_it_and_opens_the_root_key() -> Result<()> {
    let Some(browser) = tools::browser() else { return Ok(()) };
    let Some(_installed) = tools::node("playwright-core") else { return Ok(()) };
    let (page, other) = (serve_page()?, serve_page()?);
    let Some(app) = TestApp::start_with(|dir| allow(dir, &page)).await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF of a patient with a passkey").await?.id;
    let (_, member) = app.nodes.first().context("no node")?;
    let chain = chain::status(member).await?.chain;
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    let program = folder.path().join("passkeys.mjs");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/passkeys.js"), &program)?;
    let mut node = Command::new("node");
    node.arg(program);
    let given = json!({
        "auth": app.stack().auth(), "token": patient.token(), "password": patient.password,
        "username": patient.username, "patient": patient.account, "chain": chain,
        "browser": browser, "page": page, "other": other,
    });
    let said: Said = serde_json::from_str(&tools::say(node, &given).await?)?;
    let tokens = said.tokens;
    assert_eq!(tokens.account, patient.account);
    let person = Person { tokens, ..patient };
    let own = person.token();
    let me: Me = app.auth.to(auth::show_me()).bearer(own).fetch().await?;
    assert_eq!(me.username, person.username);
    let passkeys: Passkeys = app.auth.to(auth::list_passkeys()).bearer(own).fetch().await?;
    assert!(passkeys.items.iter().all(|passkey| passkey.prf && passkey.last_used_at.is_some()));
    assert_eq!(passkeys.items.len(), 1);
    let sessions: Sessions = app.auth.to(auth::list_sessions()).bearer(own).fetch().await?;
    assert!(sessions.items.iter().any(|session| session.current && session.second_factor));
    // access-policy knows the session as it knows one that began with a password.
    app.accesses(&person).await?;
    // With the root key that the passkey opened the patient signs, and nobody else does.
    assert_eq!(me.custody, Some(Custody::Passkey));
    let seed: [u8; 32] = hex::decode(said.seed)?.try_into().map_err(|_length| anyhow!("no seed"))?;
    let wallet = Wallet { root: SigningKey::from_bytes(&seed), ..Wallet::new(&app, chain) };
    let granted = wallet.grant(&app, (&person, &doctor), app.scope(&[Category::Document])).await?;
    assert_eq!(granted.custody, Custody::Passkey, "the consent states it");
    let read = app.received(&doctor, record.as_str(), "TREAT").await?;
    assert_eq!(read, b"%PDF of a patient with a passkey");
    Ok(())
}
