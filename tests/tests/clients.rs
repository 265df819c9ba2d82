//! Clients that others would make from the descriptions: generated in Python and in TypeScript, they draft and sign a grant.
//! And stock clients, which know the standards alone.

#![allow(missing_docs, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use hbc_client::operations::auth;
use hbc_tests::records::refusal;
use hbc_tests::{Person, TestApp, tools};
use hbc_types::ids::GrantId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::wire::access::GrantState;
use serde_json::json;

/// The descriptions that a client of grants needs.
const SERVICES: [&str; 2] = ["auth", "access-policy"];

fn description(service: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../openapi/{service}.json"))
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Lets a client grant, in the patient's name, the agency what both programs ask for; checks that the grant then takes
/// effect.
async fn let_it_grant(app: &TestApp, client: Command) -> Result<()> {
    let (patient, doctor): (Person, Person) = (app.patient().await?, app.doctor().await?);
    let given = json!({
        "auth": app.stack().auth(),
        "access_policy": app.stack().access_policy(),
        "username": patient.username,
        "password": patient.password,
        "agency": doctor.agency()?,
    });
    let said = tools::say(client, &given).await?;
    let grant = app.until_grant(&patient, &GrantId::parse(&said)?, GrantState::Active).await?;
    assert_eq!(grant.scope.categories, [Category::VitalSigns]);
    assert_eq!(grant.scope.sensitivities, [Sensitivity::Normal, Sensitivity::Psychiatry]);
    assert_eq!(grant.grantee.as_str(), doctor.agency()?.as_str());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_oauth_client_refreshes_and_gives_back() -> Result<()> {
    // Its packages are there if this one's program is.
    let Some(_installed) = tools::node("tsc") else { return Ok(()) };
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let patient: Person = app.patient().await?;
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    std::fs::copy(source("oauth.js"), folder.path().join("oauth.mjs"))?;
    let given = json!({"issuer": app.stack().auth(), "refresh_token": patient.tokens.refresh_token});
    let mut client = Command::new("node");
    client.arg(folder.path().join("oauth.mjs"));
    let token = tools::say(client, &given).await?;
    let me = app.auth.to(auth::show_me()).bearer(&token).fetch().await;
    assert_eq!(refusal(me, "a token that was given back")?, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_in_python_drafts_and_signs_a_grant() -> Result<()> {
    let (Some(generator), Some(python)) = (tools::python("openapi-python-client"), tools::python("python"))
    else {
        return Ok(());
    };
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "post_hooks: []\n")?;
    for service in SERVICES {
        let package = folder.path().join(service.replace('-', "_"));
        let mut generate = Command::new(&generator);
        generate.args(["generate", "--meta", "none", "--fail-on-warning", "--config"]).arg(&config);
        tools::run(generate.arg("--path").arg(description(service)).arg("--output-path").arg(package))?;
    }
    let mut client = Command::new(python);
    client.arg("-B").arg(source("grant.py")).arg(folder.path());
    let_it_grant(&app, client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_in_typescript_drafts_and_signs_a_grant() -> Result<()> {
    let (Some(generator), Some(compiler)) = (tools::node("openapi-typescript"), tools::node("tsc")) else {
        return Ok(());
    };
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    // Within the folder with the packages, which are looked for upwards from the program.
    let folder = tempfile::tempdir_in(tools::node_folder())?;
    for service in SERVICES {
        let types = folder.path().join(format!("{service}.d.ts"));
        tools::run(Command::new(&generator).arg(description(service)).arg("--output").arg(types))?;
    }
    std::fs::write(folder.path().join("package.json"), r#"{"type": "module"}"#)?;
    for name in ["grant.ts", "tsconfig.json"] {
        std::fs::copy(source(name), folder.path().join(name))?;
    }
    tools::run(Command::new(compiler).arg("--project").arg(folder.path()))?;
    let mut client = Command::new("node");
    client.arg(folder.path().join("grant.js"));
    let_it_grant(&app, client).await
}
