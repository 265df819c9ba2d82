//! `hbc init`: a deployment from nothing, whole or not at all.
//!
//! Everything is made in a folder beside the wished one and renamed at the end, when all of it is on disk, so that neither
//! an interrupted run nor a power cut leaves half a deployment that somebody might start.

pub mod founding;
pub mod keys;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hbc_db::disk;
use hbc_types::{Clock, Random};

use crate::cli::Init;
use crate::deployment::Deployment;
use crate::ports::PortPlan;
use crate::services::plan::Plan;
use crate::settings::{KuboSettings, Settings};
use crate::{kubo, secret_file, services};
use founding::{Founding, Terms};
use keys::Keys;

/// Members of a deployment made here.
const NODES: u16 = 4;

/// Makes the deployment that `args` ask for.
pub fn run(args: &Init, clock: &Clock, random: &Random) -> Result<()> {
    let deployment = Deployment::at(&args.dir).context("the folder has no path")?;
    refuse_existing(deployment.root())?;
    let program = kubo::find()?;
    let ports = PortPlan::choose(args.ports, services::processes(NODES), random)?;
    let draft = Draft::beside(deployment.root(), random)?;
    let keys = Keys::generate(NODES, random);
    let founding = Founding::new(Terms::of(args.dev), &keys, clock, random)?;
    let place = Deployment::at(draft.path())?;
    lay_out(&place, &deployment, &ports, &keys, &founding)?;
    let settings = settings(args.dev, &program, &ports);
    if let Some(settings) = &settings.kubo {
        kubo::init(settings, &place.kubo(), keys.kubo_token.expose(), random)?;
    }
    let text = toml::to_string_pretty(&settings).context("the settings cannot be written")?;
    std::fs::write(place.settings(), text).context("cannot write the settings")?;
    draft.become_folder(deployment.root())?;
    introduce(&deployment, args.dev, &founding)
}

fn refuse_existing(folder: &Path) -> Result<()> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("`{}` exists and is not empty", folder.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot use `{}`", folder.display())),
    }
}

/// Writes into `place` all that the services read and the folders they write to, with paths as they will be in `home`.
pub fn lay_out(
    place: &Deployment,
    home: &Deployment,
    ports: &PortPlan,
    keys: &Keys,
    founding: &Founding,
) -> Result<()> {
    make_folders(place, ports)?;
    keys.write(place)?;
    founding.write(place)?;
    let plan = Plan { home, ports, chain: founding.chain, dev: founding.dev };
    for process in &ports.services {
        let text = (services::named(&process.role)?.configure)(&plan, process)
            .with_context(|| format!("the configuration of {}", process.name))?;
        let path = place.config(&process.name);
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

fn make_folders(place: &Deployment, ports: &PortPlan) -> Result<()> {
    for name in ["secrets", "config", "journals", "logs", "run"] {
        secret_file::make_folder(&place.root().join(name))?;
    }
    for process in &ports.services {
        let data = place.data(&process.name);
        secret_file::make_folder(&data)?;
        (services::named(&process.role)?.found)(&data)?;
    }
    secret_file::make_folder(&place.kubo())
}

fn settings(dev: bool, program: &Path, ports: &PortPlan) -> Settings {
    let kubo =
        KuboSettings { program: program.to_owned(), api_port: ports.kubo_api, swarm_port: ports.kubo_swarm };
    Settings { dev, kubo: Some(kubo), services: ports.services.clone() }
}

fn introduce(deployment: &Deployment, dev: bool, founding: &Founding) -> Result<()> {
    crate::say(&format!("made {}", deployment.root().display()))?;
    crate::say(&format!("chain {}", founding.chain))?;
    if dev {
        crate::say(&format!("operators' logins in {}", deployment.secret("logins.json").display()))?;
    } else {
        crate::say(
            "The operators' passwords, shown this once. Give each to its operator and to nobody else:",
        )?;
        for (username, password) in &founding.logins {
            crate::say(&format!("  {username}  {}", password.expose()))?;
        }
    }
    crate::say(&format!("start it with: hbc up {}", deployment.root().display()))?;
    Ok(())
}

/// The folder in the making; gone unless it became the wished one.
struct Draft {
    path: Option<PathBuf>,
}

impl Draft {
    fn beside(folder: &Path, random: &Random) -> Result<Self> {
        let name = folder.file_name().context("the folder has no name")?.to_string_lossy();
        let parent = folder.parent().context("the folder has no parent")?;
        disk::make_folder(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        let path = parent.join(format!(".{name}.new-{}", hex::encode(random.bytes::<4>())));
        secret_file::make_folder(&path)?;
        Ok(Self { path: Some(path) })
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    fn become_folder(mut self, folder: &Path) -> Result<()> {
        if let Some(path) = self.path.take() {
            // Only an empty folder can stand there.
            let _absent = std::fs::remove_dir(folder);
            let moved = disk::sync_tree(&path).and_then(|()| std::fs::rename(&path, folder));
            if let Err(error) = moved {
                self.path = Some(path);
                return Err(error).with_context(|| format!("cannot make `{}`", folder.display()));
            }
            disk::sync_folder_of(folder).with_context(|| format!("cannot write `{}`", folder.display()))?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _left = std::fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests;
