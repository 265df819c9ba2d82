//! The table of routes. What anybody may read or submit carries its own proof or signature; the members' own
//! traffic is signed by members.

pub mod blocks;
pub mod evidence;
pub mod explorer;
pub mod members;
pub mod network;
pub mod proofs;
pub mod readers;
pub mod search;
pub mod state;
pub mod status;
pub mod stream;
pub mod transactions;
pub mod votes;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hbc_consensus::MemberId;
use hbc_service::{Problem, RateLimit, Routes};
use hbc_types::Digest;
use hbc_types::problem::Slug;

use crate::config::Config;
use crate::node::Node;
use crate::node::history::History;
use readers::Readers;
use stream::Audience;

/// Answers about anchors that are made at once; more wait.
const ANSWERS: usize = 2;

/// Challenges that a member may put at once; then one a second.
const CHALLENGES_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(7);

/// What handlers are given.
#[derive(Debug)]
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    submissions: RateLimit<IpAddr>,
    challenges: RateLimit<MemberId>,
    history: History,
    answers: tokio::sync::Semaphore,
    readers: Readers,
    audience: Arc<Audience>,
}

impl App {
    /// For this node, with the limits of its configuration.
    #[must_use]
    pub fn new(node: Arc<Node>, config: &Config) -> Self {
        let burst = NonZeroU32::new(config.submissions_per_second).unwrap_or(NonZeroU32::MIN);
        let every = Duration::from_secs(1) / burst.get();
        let readers = Readers::new(node.chain().genesis(), config.block_bytes_per_second, node.clock.clone());
        Self {
            node,
            submissions: RateLimit::new(burst, every),
            challenges: RateLimit::new(CHALLENGES_AT_ONCE, Duration::from_secs(1)),
            history: History::default(),
            answers: tokio::sync::Semaphore::new(ANSWERS),
            readers,
            audience: Arc::default(),
        }
    }

    /// Those who listen to new blocks.
    #[must_use]
    pub fn audience(&self) -> Arc<Audience> {
        self.audience.clone()
    }

    /// Counts so many transactions of an address.
    fn count_submissions(&self, address: Option<IpAddr>, count: usize) -> Result<(), Problem> {
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        address.map_or(Ok(()), |address| self.submissions.check_many(&address, count))
    }

    /// The problem of a node whose store was changed, with the peers to go to.
    #[must_use]
    pub fn attacked(&self) -> Problem {
        let state = self.node.state();
        let detail = format!("this node's stored chain was changed; it is {state}");
        self.with_members(Problem::new(Slug::NodeAttacked).detail(detail))
    }

    fn with_members(&self, problem: Problem) -> Problem {
        let members = self.node.book.healthy();
        members.iter().fold(problem, |problem, peer| problem.reference(peer.url.clone()))
    }

    /// Refuses when the store failed verification, and when this node's word is not a member's.
    fn refuse_writes(&self) -> Result<(), Problem> {
        if self.node.attack().is_some() {
            return Err(self.attacked());
        }
        if self.node.membership().is_none() {
            let problem = Problem::new(Slug::Unavailable).detail("this node is an observer: go to a member");
            return Err(self.with_members(problem));
        }
        Ok(())
    }
}

fn digest(text: &str) -> Result<Digest, Problem> {
    Digest::parse(text).map_err(|_not_a_digest| Problem::new(Slug::NotFound))
}

/// All routes.
pub fn table(routes: &mut Routes<'_>) {
    routes
        .service(transactions::submit_batch)
        .service(transactions::submit)
        .service(transactions::proof)
        .service(transactions::read)
        .service(blocks::read)
        .service(blocks::list)
        .service(blocks::checkpoint)
        .service(proofs::prove_consistency)
        .service(proofs::prove_grant)
        .service(proofs::prove_key)
        .service(proofs::prove_staff)
        .service(proofs::prove_entry)
        .service(proofs::prove_anchors)
        .service(status::genesis)
        .service(votes::history)
        .service(status::members)
        .service(votes::list_votes)
        .service(votes::nodes)
        .service(search::list_block_transactions)
        .service(explorer::read_block)
        .service(explorer::list_blocks)
        .service(search::read_transaction)
        .service(search::search_transactions)
        .service(search::list_waiting)
        .service(network::network)
        .service(explorer::read_checkpoint)
        .service(stream::stream)
        .service(status::status)
        .service(state::read_key)
        .service(state::read_grant)
        .service(state::read_staff)
        .service(members::receive)
        .service(members::announce)
        .service(evidence::read)
        .service(members::challenge);
}
