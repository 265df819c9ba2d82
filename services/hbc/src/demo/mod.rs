//! `hbc demo`: the main job of HBC, played over HTTP on real parts and real data, in a folder that goes away.

mod attack;
mod consent;
mod console;
mod people;
mod proofs;
mod records;
mod world;

use anyhow::{Context as _, Result};
use hbc_types::Random;

use crate::cli::Demo;
use crate::stack::Stack;
use console::Console;
use world::World;

/// Plays the story; an error names the first thing that did not hold.
pub async fn run(args: &Demo) -> Result<()> {
    let random = Random::system();
    let mut console = Console::new();
    console::line(
        "HBC: the patient decides who reads. Everything below runs on this machine, on real parts.",
    );
    console.step("A deployment of its own: four ledger members, three services, a private IPFS daemon");
    let stack = console.wait("starting", Stack::start("demo", args.keep, &random)).await?;
    let mut world = World::new(console, stack, random)?;
    let told = tokio::select! {
        told = story(&mut world) => told,
        _interrupt = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match told {
        Ok(()) => {
            let kept = world.stack.stop().await?;
            world.console.summary();
            if let Some(folder) = kept {
                console::line(&format!("    The deployment stays in {}", folder.display()));
            }
            Ok(())
        }
        Err(error) => {
            world.stack.keep();
            let kept = world.stack.stop().await?;
            let place = kept.map(|folder| folder.display().to_string()).unwrap_or_default();
            Err(error).with_context(|| format!("the story stopped (deployment and logs stay in {place})"))
        }
    }
}

async fn story(world: &mut World) -> Result<()> {
    let addresses: Vec<String> = world
        .stack
        .settings
        .services
        .iter()
        .map(|service| format!("{} :{}", service.name, service.port))
        .collect();
    world.console.fact("processes", addresses.join(", "));
    world.console.fact("folder", world.stack.deployment.root().display());
    world.console.proves("one command makes keys, genesis, secrets and configuration, and runs every part");
    let operator = people::operator(world).await?;
    let doctor = people::doctor(world, &operator).await?;
    let patient = people::patient(world).await?;
    records::upload_directory(world, &operator).await?;
    let all = records::upload_patient(world, &patient).await?;
    records::show_ciphertext(world, &all).await?;
    consent::doctor_sees_nothing(world, &doctor, &patient).await?;
    let grant = consent::ask_and_approve(world, &doctor, &patient).await?;
    let read = consent::doctor_reads(world, &doctor, &patient, &all).await?;
    let access = consent::access_log(world, &doctor, &patient).await?;
    proofs::check_offline(world, &patient, &access, &read).await?;
    consent::revoke(world, &doctor, &patient, &grant, &read).await?;
    attack::one_byte(world, &doctor, &patient, &grant).await
}
