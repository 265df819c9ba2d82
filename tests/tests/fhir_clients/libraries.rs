//! The programs of `tests/clients`, one for each library.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use hbc_tests::{TestApp, tools};

use crate::{verdict, world};

/// A program by its file's name.
type Program = (&'static str, Command);

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// In Python; the module with the checks lies beside it.
fn python(name: &'static str) -> Option<Program> {
    let mut command = Command::new(tools::python("python")?);
    command.arg("-B").arg(source(name));
    Some((name, command))
}

/// In JavaScript, in a folder from which its packages are found.
fn javascript(name: &'static str, folder: &Path) -> Result<Program> {
    for module in [name, "checks.js"] {
        std::fs::copy(source(module), folder.join(module).with_extension("mjs"))?;
    }
    let mut command = Command::new("node");
    command.arg(folder.join(name).with_extension("mjs"));
    Ok((name, command))
}

/// Runs a program in the name of a patient of its own, and demands that its checks are as they should be.
async fn run(app: &TestApp, (name, command): Program) -> Result<()> {
    let patient = world::child(app).await?;
    let said = tools::say(command, &world::given(app, &patient)?).await?;
    verdict::demand(name, &verdict::read(&said))
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_fhir_libraries_work_unchanged() -> Result<()> {
    let mut programs: Vec<Program> =
        ["fhir_async.py", "fhir_sync.py", "fhir_smart.py"].into_iter().filter_map(python).collect();
    let folder;
    // The packages are there if this one's program is.
    if tools::node("tsc").is_some() {
        folder = tempfile::tempdir_in(tools::node_folder())?;
        for name in ["fhir_kit.js", "fhir_smart.js"] {
            programs.push(javascript(name, folder.path())?);
        }
    }
    programs.extend(tools::java(&source("java/FhirHapi.java")).map(|command| ("FhirHapi.java", command)));
    if programs.is_empty() {
        return Ok(());
    }
    let Some(app) = world::stack().await? else { return Ok(()) };
    world::directory(&app).await?;
    let outcomes = join_all(programs.into_iter().map(|program| run(&app, program))).await;
    let faults: Vec<String> =
        outcomes.into_iter().filter_map(|outcome| Some(format!("{:#}", outcome.err()?))).collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n\n"));
    Ok(())
}
