//! `hbc up`: the processes of one deployment, from its settings, until told to stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hbc_types::Clock;
use serde::Serialize;
use tokio::sync::watch;

use crate::cli::Up;
use crate::deployment::Deployment;
use crate::probe::Probe;
use crate::settings::{KuboSettings, ServiceSettings, Settings};
use crate::supervise::{ProcessSpec, Standings, State, Supervisor};
use crate::{kubo, services, stop};

/// How often the wait for readiness tells what it waits for.
const PROGRESS: Duration = Duration::from_secs(3);

/// What tools learn from `--ready-file`.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    services: BTreeMap<&'a str, String>,
    roles: BTreeMap<&'a str, Vec<&'a str>>,
    kubo: Option<String>,
}

/// Runs the deployment until a signal (or the end of input, where asked) stops it.
pub async fn run(args: &Up) -> Result<()> {
    let deployment = Deployment::at(&args.dir).context("the folder has no path")?;
    let settings = Settings::read(&deployment.settings())?;
    let stop = stop::requested(args.until_input_closes)?;
    let specs = processes(&deployment, &settings)?;
    let supervisor = Supervisor::start(&deployment, specs, Clock::system(), args.quiet)?;
    supervisor.journal().say(&format!("starting {}", deployment.root().display()));
    let standings = supervisor.watch();
    let announce = announce_when_ready(standings, &deployment, &settings, args);
    let stop_or_failure = async {
        tokio::pin!(stop);
        tokio::select! {
            () = &mut stop => Ok(()),
            announced = announce => match announced {
                Ok(()) => { stop.await; Ok(()) }
                Err(error) => Err(error),
            },
        }
    };
    let mut outcome = Ok(());
    supervisor.run_until(async { outcome = stop_or_failure.await }).await;
    outcome
}

/// The children: Kubo and every listed service, each in the one binary's own `serve`.
fn processes(deployment: &Deployment, settings: &Settings) -> Result<Vec<ProcessSpec>> {
    let program = std::env::current_exe().context("this program has no path")?;
    let mut specs = Vec::new();
    if let Some(kubo) = &settings.kubo {
        specs.push(kubo_process(deployment, kubo, &program)?);
    }
    for service in &settings.services {
        specs.push(service_process(deployment, service, &program)?);
    }
    Ok(specs)
}

fn kubo_process(deployment: &Deployment, settings: &KuboSettings, program: &Path) -> Result<ProcessSpec> {
    let path = deployment.secret("kubo.token");
    let token =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Ok(ProcessSpec {
        name: "kubo".to_owned(),
        program: program.to_owned(),
        args: vec![
            "guard".to_owned(),
            "--pid-file".to_owned(),
            text(&deployment.guarded_pid_file("kubo")),
            "--".to_owned(),
            text(&settings.program),
            "daemon".to_owned(),
        ],
        env: kubo::environment(&deployment.kubo()),
        ready: Some(Probe::kubo(settings.api_port, token.trim())),
        stop_order: 3,
    })
}

fn service_process(
    deployment: &Deployment,
    service: &ServiceSettings,
    program: &Path,
) -> Result<ProcessSpec> {
    let row = services::named(&service.role)?;
    Ok(ProcessSpec {
        name: service.name.clone(),
        program: program.to_owned(),
        args: vec![
            "serve".to_owned(),
            row.name.to_owned(),
            "--until-input-closes".to_owned(),
            "--config".to_owned(),
            deployment.config(&service.name).to_string_lossy().into_owned(),
        ],
        env: Vec::new(),
        ready: Some(Probe::service(service.port)),
        stop_order: row.stop_order,
    })
}

/// Waits until every child is ready, telling what is awaited, then gives the addresses out.
async fn announce_when_ready(
    mut standings: watch::Receiver<Standings>,
    deployment: &Deployment,
    settings: &Settings,
    args: &Up,
) -> Result<()> {
    let expected = settings.services.len() + usize::from(settings.kubo.is_some());
    let began = Instant::now();
    loop {
        let ready = standings.wait_for(|all| {
            all.len() == expected && all.values().all(|standing| standing.state == State::Ready)
        });
        if let Ok(all) = tokio::time::timeout(PROGRESS, ready).await {
            drop(all.context("the supervisor is gone")?);
            break;
        }
        if !args.quiet {
            eprintln!("hbc: waiting for {}", awaited(&standings.borrow()));
        }
    }
    if let Some(path) = &args.ready_file {
        write_ready_file(path, settings)?;
    }
    if !args.quiet {
        introduce(deployment, settings, began.elapsed());
    }
    Ok(())
}

fn awaited(all: &Standings) -> String {
    let waiting = all.iter().filter(|(_, standing)| standing.state != State::Ready);
    waiting.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn write_ready_file(path: &Path, settings: &Settings) -> Result<()> {
    let services =
        settings.services.iter().map(|service| (service.name.as_str(), url(service.port))).collect();
    let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for service in &settings.services {
        roles.entry(&service.role).or_default().push(&service.name);
    }
    let ready = Ready { services, roles, kubo: settings.kubo.as_ref().map(|kubo| url(kubo.api_port)) };
    let json = serde_json::to_vec_pretty(&ready).context("cannot write the addresses")?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, json)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Tells people where everything is and, in a development deployment, how to log in.
fn introduce(deployment: &Deployment, settings: &Settings, took: Duration) {
    eprintln!("\nReady after {:.1} s. Ctrl-C stops everything.\n", took.as_secs_f64());
    for service in &settings.services {
        let url = url(service.port);
        eprintln!("  {:<14} {url:<24} API: {url}/docs/", service.name);
    }
    if let Some(kubo) = &settings.kubo {
        eprintln!("  {:<14} {:<24} RPC, with the token in secrets/kubo.token", "kubo", url(kubo.api_port));
    }
    eprintln!("\n  logs in {}", deployment.root().join("logs").display());
    if settings.dev {
        eprintln!("  operators' logins (secrets/logins.json):");
        let logins = std::fs::read_to_string(deployment.secret("logins.json")).unwrap_or_default();
        let logins: serde_json::Value = serde_json::from_str(&logins).unwrap_or_default();
        for login in logins.get("operators").and_then(serde_json::Value::as_array).into_iter().flatten() {
            let field = |name| login.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            eprintln!("    {}  {}", field("username"), field("password"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_stops_first_and_kubo_last() {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment::at(folder.path()).unwrap();
        crate::secret_file::make_folder(&folder.path().join("secrets")).unwrap();
        crate::secret_file::write(&deployment.secret("kubo.token"), b"t").unwrap();
        let settings = Settings {
            dev: true,
            kubo: Some(KuboSettings { program: "ipfs".into(), api_port: 1, swarm_port: 2 }),
            services: services::processes(1),
        };
        let mut specs = processes(&deployment, &settings).unwrap();
        specs.sort_by_key(|spec| spec.stop_order);
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"storage"));
        assert_eq!(names.last(), Some(&"kubo"));
    }
}
