//! `hbc member list|votes|vote`: who decides on a ledger, what members want to change, and a member's own vote.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hbc_chain::genesis::Genesis;
use hbc_chain::header::Target;
use hbc_chain::payload::{MemberVote, Payload, ServiceKeyChange};
use hbc_chain::tx;
use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_types::keys::PublicKey;
use hbc_types::wire::explorer::{NetworkView, PartyView, SubjectView, VotesView};
use hbc_types::wire::ledger::{Promise, SubmitTransaction, TransactionState, TransactionView};
use hbc_types::{Clock, Digest};

use crate::cli::{MemberVoteArgs, Wish};
use crate::key;

/// How long a vote may take into a block.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Members, operators, services' keys and parameters of the next height, as a node says.
pub async fn list(node: &str) -> Result<()> {
    let network: NetworkView = Endpoint::new(node)?.to(ledger::read_network()).fetch().await?;
    crate::say(&format!("chain {}, after block {}", network.chain, network.height))?;
    let party = |role: &str, party: &PartyView| {
        let PartyView { name, kid, key } = party;
        crate::say(&format!("{role:<10} {name:<20} key {key}  fingerprint {kid}"))
    };
    network.members.iter().try_for_each(|one| party("member", one))?;
    network.operators.iter().try_for_each(|one| party("operator", one))?;
    for service in &network.services {
        crate::say(&format!("service    {:<20} key {}  {}", service.role, service.key, service.status))?;
    }
    let parameters = serde_json::to_value(network.parameters)?;
    for (name, value) in parameters.as_object().into_iter().flatten() {
        crate::say(&format!("parameter  {name:<20} {value}"))?;
    }
    Ok(())
}

/// What is pending, subject by subject.
pub async fn votes(node: &str) -> Result<()> {
    let node = Endpoint::new(node)?;
    let mut page = ledger::list_votes();
    loop {
        let votes: VotesView = node.to(page).fetch().await?;
        for subject in &votes.subjects {
            show(subject, votes.needed)?;
        }
        let Some(next) = votes.next else { return Ok(()) };
        page = ledger::list_votes().with(format!("cursor={next}"));
    }
}

fn show(subject: &SubjectView, needed: u32) -> Result<()> {
    crate::say(&format!("{} (change {}, needs {needed} votes)", subject.subject, subject.nonce))?;
    for vote in &subject.votes {
        let counts = if vote.counts { "" } else { "  does not count" };
        crate::say(&format!("  {:<20} {}{counts}", vote.member, vote.value))?;
    }
    Ok(())
}

/// Signs a vote with the member's key, gives it to a node, and tells what it led to.
pub async fn vote(args: &MemberVoteArgs, clock: &Clock) -> Result<()> {
    let chain = chain_of(&args.genesis)?;
    let signer = key::read(&args.key)?;
    let node = Endpoint::new(&args.node)?;
    let subject = subject_of(&args.wish);
    let known = look(&node, &subject).await?;
    let payload = payload(&args.wish, chain, subject.clone(), known.0.nonce, clock)?;
    let jws = tx::sign(&signer, &payload)?;
    let body = SubmitTransaction { jws };
    let promise: Promise =
        node.to(ledger::submit_transaction()).json(&body).fetch().await.context("the vote was not taken")?;
    crate::say(&format!("{subject}: the vote is transaction {}", promise.txid))?;
    let height = until_final(&node, &promise.txid).await?;
    let (now, needed) = look(&node, &subject).await?;
    if now.nonce > known.0.nonce {
        return Ok(crate::say(&format!(
            "final in block {height}; the change takes effect from the next block on"
        ))?);
    }
    crate::say(&format!("final in block {height}; it is pending:"))?;
    show(&now, needed)
}

fn chain_of(genesis: &Path) -> Result<Digest> {
    let bytes = std::fs::read(genesis).with_context(|| format!("cannot read `{}`", genesis.display()))?;
    Ok(Genesis::parse(&bytes)?.chain_id()?)
}

async fn look(node: &Endpoint, subject: &str) -> Result<(SubjectView, u32)> {
    let mut view: VotesView =
        node.to(ledger::list_votes().with(format!("subject={subject}"))).fetch().await?;
    let found = view.subjects.pop().context("the node says nothing about this subject")?;
    ensure!(found.subject == subject, "the node speaks of another subject");
    Ok((found, view.needed))
}

fn subject_of(wish: &Wish) -> String {
    match wish {
        Wish::Member { name, .. } => format!("member:{name}"),
        Wish::Operator { name, .. } => format!("operator:{name}"),
        Wish::Parameter { name, .. } if name == "zero_bits" => "parameter:target".to_owned(),
        Wish::Parameter { name, .. } => format!("parameter:{name}"),
        Wish::Service { public, .. } => format!("service:{}", public.kid()),
    }
}

/// What the vote says. A node refuses what no rule allows, so only what a typing mistake could turn into something else
/// is looked at here.
fn payload(wish: &Wish, chain: Digest, subject: String, nonce: u64, clock: &Clock) -> Result<Payload> {
    let iat = clock.now().unsigned_ms();
    let vote = |value| Payload::MemberVote(MemberVote { chain, iat, nonce, subject, value });
    Ok(match wish {
        Wish::Member { value, .. } | Wish::Operator { value, .. } => {
            if value != "none" {
                let key = PublicKey::parse(value).context("neither `none` nor a public key")?;
                key.prepare().context("no key to sign with")?;
            }
            vote(value.clone())
        }
        Wish::Parameter { name, value } if name == "zero_bits" => {
            let bits = u32::try_from(*value).context("too many bits")?;
            let target = Target::from_zero_bits(bits).context("no target has so many zero bits")?;
            vote(target.compact().to_string())
        }
        Wish::Parameter { value, .. } => vote(value.to_string()),
        Wish::Service { role, public, status } => Payload::ServiceKey(ServiceKeyChange {
            chain,
            iat,
            key: public.kid(),
            nonce,
            public: *public,
            role: *role,
            status: *status,
        }),
    })
}

async fn until_final(node: &Endpoint, txid: &Digest) -> Result<u64> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        let view: TransactionView = node.to(ledger::read_transaction(txid)).fetch().await?;
        match (view.state, view.height) {
            (TransactionState::Final, Some(height)) => return Ok(height),
            (TransactionState::Refused, _) => bail!("refused: {}", view.refusal.unwrap_or_default()),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
    bail!("promised, but in no block within {} s: without a quorum it waits", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use hbc_types::Timestamp;

    use super::*;

    fn said(wish: &Wish) -> Result<Payload> {
        let clock = Clock::fixed(Timestamp::from_ms(5));
        payload(wish, Digest::ZERO, subject_of(wish), 3, &clock)
    }

    #[test]
    fn bits_of_work_become_the_target_that_is_voted_on() {
        let wish = Wish::Parameter { name: "zero_bits".to_owned(), value: 16 };
        let Payload::MemberVote(vote) = said(&wish).unwrap() else { panic!("a vote") };
        assert_eq!(
            (vote.subject.as_str(), vote.value.as_str(), vote.nonce),
            ("parameter:target", "520159231", 3)
        );
        vote.change().unwrap();
        assert!(said(&Wish::Parameter { name: "zero_bits".to_owned(), value: 300 }).is_err());
    }

    #[test]
    fn a_member_is_set_to_a_key_or_to_none_and_to_nothing_else() {
        let wish = |value: &str| Wish::Member { name: "node-5".to_owned(), value: value.to_owned() };
        assert!(said(&wish("none")).is_ok());
        assert!(said(&wish(&PublicKey::of(&SigningKey::from_bytes(&[1; 32])).to_string())).is_ok());
        for wrong in ["None", "", "7", &"02".repeat(32)] {
            assert!(said(&wish(wrong)).is_err(), "{wrong}");
        }
    }
}
