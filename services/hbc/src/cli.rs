//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use hbc_chain::payload::KeyStatus;
use hbc_types::account::ServiceRole;
use hbc_types::keys::PublicKey;

use crate::ports::Ports;
use crate::services::{self, Service};

/// HBC: a health-record platform in which the patient decides who reads.
#[derive(Debug, Parser)]
#[command(name = "hbc", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a deployment: keys, genesis, operators, secrets and configuration in an empty folder.
    Init(Init),
    /// Run a whole deployment on this machine: every service, ledger members and Kubo, until Ctrl-C.
    Up(Up),
    /// Run one service.
    Serve(Serve),
    /// Bring a service's database to the present schema, without serving.
    Migrate(Serve),
    /// Show what the services of a deployment owe to do, and begin anew what failed for good.
    #[command(subcommand)]
    Jobs(Jobs),
    /// Suspend, resume or heal one process of a running deployment, or show them all.
    #[command(subcommand)]
    Node(Node),
    /// Make a key, or show a key's public half.
    #[command(subcommand)]
    Key(Key),
    /// Who decides on a ledger: show it, show what members want to change, give a member's vote.
    #[command(subcommand)]
    Member(Member),
    /// Check a proof, a checkpoint or a whole exported chain offline. Exit code 0: good; 1: bad; 3: consistent, but the chain
    /// is not pinned.
    Verify(hbc_verify::Verify),
    /// Write a whole chain into one file, from a node's address or from its data folder.
    Export(Export),
    /// Write the services' OpenAPI documents, or check that the committed ones are current.
    Openapi(OpenApi),
    /// Play the whole story on a real synthetic patient, in a fresh folder, and stop everything again.
    Demo(Demo),
    /// Measure what this machine makes of HBC, beside what it could do at most.
    #[command(subcommand)]
    Bench(Bench),
    /// Run a foreign program and end it when standard input closes (used by `up`).
    #[command(hide = true)]
    Guard(Guard),
}

/// `hbc init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A development deployment: one operator, little proof of work, logins kept in a file.
    #[arg(long)]
    pub dev: bool,
    /// `default` (7101 and up), or `auto` for ports that are free now.
    #[arg(long, value_enum, default_value_t = Ports::Default)]
    pub ports: Ports,
    /// The folder to make; it must not exist or be empty.
    pub dir: PathBuf,
}

/// `hbc up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Write a JSON file with all addresses once everything is ready.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// Also stop when standard input closes.
    #[arg(long)]
    pub until_input_closes: bool,
    /// Say nothing on the terminal (the log files have it all).
    #[arg(long)]
    pub quiet: bool,
    /// The deployment's folder.
    pub dir: PathBuf,
}

/// `hbc serve` and `hbc migrate`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Which service.
    #[arg(value_parser = services::parser())]
    pub service: &'static Service,
    /// Its configuration file.
    #[arg(long)]
    pub config: PathBuf,
    /// Also stop when standard input closes.
    #[arg(long)]
    pub until_input_closes: bool,
}

/// `hbc node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// End a process and keep it down.
    Stop(NodeName),
    /// Let a stopped process run again; returns when it is ready.
    Start(NodeName),
    /// Make a ledger node's database anew from its blocks and, where they are damaged, from the other members'; the node
    /// is suspended meanwhile. Prints every root that was derived.
    Heal(NodeName),
    /// `kill -9` a process; the supervisor starts it again (for tests of crashes).
    #[command(hide = true)]
    Kill(NodeName),
    /// Show every process.
    List {
        /// The deployment's folder.
        dir: PathBuf,
    },
}

/// Which process of which deployment.
#[derive(Debug, Args)]
pub struct NodeName {
    /// The process, such as `node-2`, `storage` or `kubo`.
    pub name: String,
    /// The deployment's folder.
    pub dir: PathBuf,
}

/// `hbc export`.
#[derive(Debug, Args)]
pub struct Export {
    /// A node's address, such as http://127.0.0.1:7103.
    #[arg(long, required_unless_present = "data", conflicts_with_all = ["data", "genesis"])]
    pub node: Option<String>,
    /// A node's data folder; the node may be stopped.
    #[arg(long, requires = "genesis")]
    pub data: Option<PathBuf>,
    /// genesis.json of the deployment, with --data.
    #[arg(long)]
    pub genesis: Option<PathBuf>,
    /// The file to write, such as chain.hbc; an older one is replaced once the new one is whole.
    pub file: PathBuf,
}

/// `hbc openapi`.
#[derive(Debug, Args)]
pub struct OpenApi {
    /// Write nothing; fail if a committed document differs.
    #[arg(long)]
    pub check: bool,
    /// Where the documents lie.
    #[arg(long, default_value = "openapi")]
    pub dir: PathBuf,
}

/// `hbc demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the folder, and say where it is, instead of removing it.
    #[arg(long)]
    pub keep: bool,
}

/// `hbc key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a signing key in a file of mode 0600 and show its public half.
    New {
        /// The file to make.
        file: PathBuf,
    },
    /// Show the public half of the key in a file.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// Make a new key for access tokens; what the present one signed lives out. Start auth again afterwards.
    Rotate {
        /// The deployment's folder.
        dir: PathBuf,
    },
}

/// `hbc member`.
#[derive(Debug, Subcommand)]
pub enum Member {
    /// Members, operators, services' keys and parameters of the next block.
    List {
        /// A node's address, such as `http://127.0.0.1:7103`.
        #[arg(long)]
        node: String,
    },
    /// Pending votes.
    Votes {
        /// A node's address.
        #[arg(long)]
        node: String,
    },
    /// Give a member's vote for a change; it takes effect once more than two thirds of the members gave the same.
    Vote(MemberVoteArgs),
}

/// `hbc member vote`.
#[derive(Debug, Args)]
pub struct MemberVoteArgs {
    /// genesis.json of the chain.
    #[arg(long)]
    pub genesis: PathBuf,
    /// The address of the node to give it to.
    #[arg(long)]
    pub node: String,
    /// The file of the member's key.
    #[arg(long)]
    pub key: PathBuf,
    /// For what.
    #[command(subcommand)]
    pub wish: Wish,
}

/// What a member may want.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// A member joins, changes its key, or leaves.
    Member {
        /// Its name.
        name: String,
        /// Its public key, or `none`.
        value: String,
    },
    /// An operator joins, changes its key, or leaves.
    Operator {
        /// Its name.
        name: String,
        /// Its public key, or `none`.
        value: String,
    },
    /// A parameter changes: `approvals`, `heartbeat_ms`, `max_block_bytes`, `min_spacing_ms`, or `zero_bits` of work.
    Parameter {
        /// Its name.
        name: String,
        /// Its number.
        value: u64,
    },
    /// A service's key comes into use, or is revoked for ever.
    Service {
        /// Whose.
        #[arg(value_parser = role)]
        role: ServiceRole,
        /// The public key.
        #[arg(value_parser = public_key)]
        public: PublicKey,
        /// `active` or `revoked`.
        #[arg(value_parser = status)]
        status: KeyStatus,
    },
}

/// `hbc jobs`.
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Show the jobs: how they stand, how often they were tried, since when they are owed, what went wrong last.
    List(JobsList),
    /// Begin jobs anew that failed for good; the service takes them up within a second.
    Retry(JobsRetry),
}

/// `hbc jobs list`.
#[derive(Debug, Args)]
pub struct JobsList {
    /// Only those that failed for good.
    #[arg(long)]
    pub failed: bool,
    /// Only those of this service.
    #[arg(long)]
    pub service: Option<String>,
    /// The deployment's folder.
    pub dir: PathBuf,
}

/// `hbc jobs retry`.
#[derive(Debug, Args)]
pub struct JobsRetry {
    /// The deployment's folder.
    pub dir: PathBuf,
    /// The service whose jobs they are.
    pub service: String,
    /// The jobs, by their numbers in the list.
    #[arg(required_unless_present = "all")]
    pub jobs: Vec<i64>,
    /// All that failed for good.
    #[arg(long, conflicts_with = "jobs")]
    pub all: bool,
}

/// `hbc bench`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// The ledger: accepted and final transactions per second, latencies, verification, memory.
    Ledger(BenchLedger),
    /// auth: logins, token checks, refreshes, programs' tokens and introspections per second, beside what Argon2id, Ed25519
    /// and an fsync take.
    Auth(BenchAuth),
}

/// `hbc bench auth`.
#[derive(Debug, Args)]
pub struct BenchAuth {
    /// Patients, or programs, that do the same at once.
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Also write the figures to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// `hbc bench ledger`.
#[derive(Debug, Args)]
pub struct BenchLedger {
    /// Members that must agree.
    #[arg(long, default_value_t = 4)]
    pub members: u16,
    /// Transactions of each load.
    #[arg(long, default_value_t = 100_000)]
    pub transactions: usize,
    /// Transactions in one request.
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    /// Transactions given one after the other, for latencies.
    #[arg(long, default_value_t = 200)]
    pub single: usize,
    /// Transactions in the stored chain that is verified from the first byte to the last.
    #[arg(long, default_value_t = 200_000)]
    pub stored: usize,
    /// Blocks of one transaction each, over which the paper's algorithm is measured.
    #[arg(long, default_value_t = 10_000)]
    pub blocks: usize,
    /// Leading zero bits of each block's hash: the work of a production deployment.
    #[arg(long, default_value_t = 20)]
    pub zero_bits: u32,
    /// Milliseconds between blocks at least, as in a production deployment.
    #[arg(long, default_value_t = 250)]
    pub min_spacing: u64,
    /// Verify every earlier block before each promise and vote, not only what may have changed.
    #[arg(long)]
    pub full: bool,
    /// Also write the figures to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl BenchLedger {
    /// As configurations say it.
    pub const fn verify_name(&self) -> &'static str {
        if self.full { "full" } else { "incremental" }
    }
}

/// `hbc guard`.
#[derive(Debug, Args)]
pub struct Guard {
    /// Where to record the program's process.
    #[arg(long)]
    pub pid_file: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// The service that a text names.
fn role(text: &str) -> Result<ServiceRole, String> {
    let known = || ServiceRole::ALL.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
    ServiceRole::parse(text).ok_or_else(|| format!("expected one of {}", known()))
}

/// The status that a text names.
fn status(text: &str) -> Result<KeyStatus, String> {
    KeyStatus::parse(text).ok_or_else(|| "expected `active` or `revoked`".to_owned())
}

/// The public key that a text names.
fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text).map_err(|error| error.to_string())
}
