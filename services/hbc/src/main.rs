//! The one binary of HBC: makes deployments, runs them, runs each service, exports and checks chains and proofs, plays the demonstration.
//!
//! It owns processes and files, no domain logic: that lives in the service libraries and in `hbc_types`.

mod bench;
mod cli;
mod demo;
mod deployment;
mod export;
mod guard;
mod init;
mod jobs;
mod key;
mod kubo;
mod member;
mod node;
mod openapi;
mod ports;
mod probe;
mod process_id;
mod scratch;
mod secret_file;
mod serve;
mod services;
mod settings;
mod stack;
mod stop;
mod supervise;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use deployment::Deployment;
use hbc_types::{Clock, Random};

/// Services read and hash pieces of megabytes on threads that come and go: glibc's allocator keeps what each of them once
/// held. Why: decision 0086.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hbc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: cli::Command) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        cli::Command::Init(args) => done(init::run(&args, &Clock::system(), &Random::system())),
        cli::Command::Up(args) => done(runtime()?.block_on(up::run(&args))),
        cli::Command::Serve(args) => done(runtime()?.block_on(serve::serve(&args))),
        cli::Command::Migrate(args) => done(runtime()?.block_on(serve::migrate(args.service, &args.config))),
        cli::Command::Jobs(args) => done(runtime()?.block_on(jobs(&args))),
        cli::Command::Node(args) => done(node(args)),
        cli::Command::Key(cli::Key::New { file }) => done(key::make(&file, &Random::system())),
        cli::Command::Key(cli::Key::Show { file }) => done(key::show(&file)),
        cli::Command::Key(cli::Key::Rotate { dir }) => {
            done(key::rotate(&Deployment::at(&dir)?, &Random::system()))
        }
        cli::Command::Member(args) => done(runtime()?.block_on(member(&args))),
        cli::Command::Verify(args) => hbc_verify::run("hbc", &args),
        cli::Command::Export(args) => done(runtime()?.block_on(export::run(&args))),
        cli::Command::Openapi(args) => done(openapi::run(&args.dir, args.check)),
        cli::Command::Demo(args) => done(runtime()?.block_on(demo::run(&args))),
        cli::Command::Bench(cli::Bench::Ledger(args)) => done(runtime()?.block_on(bench::ledger(&args))),
        cli::Command::Bench(cli::Bench::Auth(args)) => done(runtime()?.block_on(bench::auth(&args))),
        cli::Command::Guard(args) => {
            let Some((program, rest)) = args.command.split_first() else { anyhow::bail!("no program given") };
            runtime()?.block_on(guard::run(&args.pid_file, program, rest))
        }
    }
}

fn node(command: cli::Node) -> anyhow::Result<()> {
    match command {
        cli::Node::Stop(which) => node::stop(&Deployment::at(&which.dir)?, &which.name),
        cli::Node::Start(which) => {
            let deployment = Deployment::at(&which.dir)?;
            let conditions = node::Conditions::of(&deployment, runtime()?)?;
            node::start(&deployment, &which.name, Some(&conditions))
        }
        cli::Node::Heal(which) => node::heal(&Deployment::at(&which.dir)?, &which.name, &runtime()?),
        cli::Node::Kill(which) => node::kill(&Deployment::at(&which.dir)?, &which.name),
        cli::Node::List { dir } => {
            let deployment = Deployment::at(&dir)?;
            let conditions = node::Conditions::of(&deployment, runtime()?)?;
            for (name, standing) in node::standings(&deployment)? {
                let state = match conditions.unwell(&name).filter(|_| standing.pid.is_some()) {
                    Some(status) => status.state.to_string(),
                    None => format!("{:?}", standing.state).to_lowercase(),
                };
                let pid = standing.pid.map(|pid| format!("process {pid}")).unwrap_or_default();
                say(&format!("{name:<14} {state:<10} {pid:<16} failures {}", standing.failures))?;
            }
            Ok(())
        }
    }
}

async fn jobs(command: &cli::Jobs) -> anyhow::Result<()> {
    match command {
        cli::Jobs::List(args) => jobs::list(args, &Clock::system()).await,
        cli::Jobs::Retry(args) => jobs::retry(args, &Clock::system()).await,
    }
}

async fn member(command: &cli::Member) -> anyhow::Result<()> {
    match command {
        cli::Member::List { node } => member::list(node).await,
        cli::Member::Votes { node } => member::votes(node).await,
        cli::Member::Vote(args) => member::vote(args, &Clock::system()).await,
    }
}

/// One line of result on standard output.
fn say(line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
