//! Signatures of staff profiles: operators' with keys that only their passwords open, auth's beside them. Each is owed to
//! the ledger, which decides when it is enough.

use ed25519_dalek::SigningKey;
use hbc_chain::payload::{Payload, StaffStatus};
use hbc_chain::tx;
use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::account::Role;
use hbc_types::ids::{AgencyId, OperatorId};
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{AgencyView, SigningPassword};

use crate::app::App;
use crate::domain::staff::{Signed, StaffChange, public_organisation};
use crate::error::Error;
use crate::flows::account::open_key;
use crate::flows::agencies::{self, Viewer};
use crate::flows::login::{Origin, Proof, prove};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::staff::{AUTH, StaffSignature};

/// The `kind` of staff transactions in the outbox.
const KIND: &str = "identity.staff";

/// An operator's decision about an agency: who, about whom, and from where.
#[derive(Clone, Debug)]
pub struct Deciding<'a> {
    /// The operator.
    pub operator: (&'a OperatorId, &'a Account),
    /// The agency.
    pub agency: &'a AgencyId,
    /// Where the request comes from.
    pub origin: Origin,
}

/// The agency as the operator sees it now.
pub async fn seen(app: &App, deciding: &Deciding<'_>) -> Result<AgencyView, Error> {
    let account = agencies::find(app, deciding.agency).await?.ok_or(Error::NotFound)?;
    let viewer = Viewer { account: deciding.operator.1.id.clone(), role: Role::Operator };
    agencies::view(app, &account, &viewer).await
}

/// The operator's key, opened with a freshly checked password.
pub async fn operator_key(
    app: &App,
    operator: &Account,
    signature: SigningPassword,
    origin: Origin,
) -> Result<SigningKey, Error> {
    let password = signature.password.clone();
    let proof = Proof { password: signature.password, totp: signature.totp, origin };
    let proven = prove(app, &operator.username, proof).await?;
    if proven.account.role != Role::Operator {
        return Err(Error::Forbidden("only operators sign staff profiles"));
    }
    let key = open_key(app, &proven.account, password).await?;
    key.ok_or(Error::Broken("an operator's signing key is missing"))
}

/// The next change of the profile of the account's own key.
pub async fn change(app: &App, agency: &Account, status: StaffStatus) -> Result<StaffChange, Error> {
    let organisation = match &agency.organisation {
        Some(id) => agencies::find(app, id).await?.and_then(|organisation| organisation.contact.name),
        None => None,
    };
    let agency_type = agency.agency_type.ok_or(Error::NotFound)?;
    let name = agency.contact.name.as_deref().unwrap_or_default();
    Ok(StaffChange {
        chain: app.chain,
        public_key: agency.public_key,
        agency_type,
        organisation: public_organisation(agency_type, name, organisation.as_deref()),
        profile: agency.profile.clone().ok_or(Error::Broken("an agency has no profile"))?,
        nonce: u64::try_from(agency.staff_round).unwrap_or(0),
        status,
    })
}

/// Whether the account is the one that a change was signed for: of the same key, and with as many changes before.
#[must_use]
pub fn is_about(change: &StaffChange, account: &Account) -> bool {
    change.public_key == account.public_key && u64::try_from(account.staff_round).ok() == Some(change.nonce)
}

/// A signature to be stored: of which change of which of an agency's keys, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Vote<'a> {
    /// The agency.
    pub agency: &'a AgencyId,
    /// The number of the key.
    pub key: i64,
    /// The change.
    pub round: i64,
    /// An operator's id, or [`AUTH`].
    pub signer: &'a str,
    /// What it is a change to.
    pub status: StaffStatus,
    /// When it was signed.
    pub signed_at: Timestamp,
}

/// Stores a signature and owes its transaction to the ledger.
pub async fn add(
    rows: &Rows,
    tx: &mut Tx,
    vote: Vote<'_>,
    signed: &Signed,
    now: Timestamp,
) -> Result<(), Error> {
    let Vote { agency, key, round, signer, status, signed_at } = vote;
    let signature = StaffSignature {
        agency: agency.clone(),
        key,
        round,
        signer: signer.to_owned(),
        status: status.code().to_owned(),
        txid: signed.txid,
        signed_at,
        final_at: None,
    };
    rows.insert_staff_signature(tx, &signature).await?;
    let transaction = NewTransaction {
        txid: signed.txid,
        author: signed.author,
        kind: KIND.to_owned(),
        reference: agency.as_str().to_owned(),
        jws: signed.jws.clone(),
    };
    Ok(hbc_db::outbox::enqueue(tx, &transaction, now).await?)
}

/// The same of a transaction that an operator signed earlier, if it is about this key of this number.
pub async fn hand_over(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    (key, public_key): (i64, &[u8; 32]),
    (jws, signer): (String, &str),
    now: Timestamp,
) -> Result<(), Error> {
    let parsed = tx::Tx::parse(jws.as_bytes()).map_err(|_other| Error::Broken("an end that is none"))?;
    let Payload::Staff(change) = parsed.payload() else {
        return Err(Error::Broken("an end that is none"));
    };
    if change.public.as_bytes() != public_key {
        return Ok(());
    }
    let time = |ms: u64| i64::try_from(ms).map(Timestamp::from_ms);
    let vote = Vote {
        agency,
        key,
        round: i64::try_from(change.nonce).map_err(|_large| Error::Broken("a round that is none"))?,
        signer,
        status: change.status,
        signed_at: time(change.iat).map_err(|_large| Error::Broken("a time that is none"))?,
    };
    let signed = Signed { txid: parsed.txid(), author: parsed.kid(), jws };
    add(rows, tx, vote, &signed, now).await
}

/// Whether auth and enough different operators are final in `round` of a key.
#[must_use]
pub fn is_complete(signatures: &[StaffSignature], (key, round): (i64, i64), approvals: u32) -> bool {
    let of_round = || {
        signatures.iter().filter(|signature| {
            (signature.key, signature.round) == (key, round)
                && signature.status == StaffStatus::Active.code()
                && signature.final_at.is_some()
        })
    };
    let operators = of_round().filter(|signature| signature.signer != AUTH).count();
    of_round().any(|signature| signature.signer == AUTH)
        && operators >= usize::try_from(approvals).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_types::Digest;

    fn signature(signer: &str, round: i64, is_final: bool) -> StaffSignature {
        StaffSignature {
            agency: AgencyId::parse("agy-00000000000000000000000000000001").unwrap(),
            key: 0,
            round,
            signer: signer.to_owned(),
            status: "active".to_owned(),
            txid: Digest::of(signer.as_bytes()),
            signed_at: Timestamp::from_ms(1),
            final_at: is_final.then(|| Timestamp::from_ms(2)),
        }
    }

    #[test]
    fn a_round_needs_auth_and_enough_operators_all_final() {
        let complete = |list: &[StaffSignature]| is_complete(list, (0, 0), 2);
        let all = [signature(AUTH, 0, true), signature("op-1", 0, true), signature("op-2", 0, true)];
        assert!(complete(&all));
        assert!(!complete(&all[1..]));
        assert!(!complete(&all[..2]));
        assert!(!complete(&[all[0].clone(), all[1].clone(), signature("op-2", 0, false)]));
        assert!(!complete(&[all[0].clone(), all[1].clone(), signature("op-2", 1, true)]));
        let changed = |change: fn(&mut StaffSignature)| {
            let mut last = all[2].clone();
            change(&mut last);
            [all[0].clone(), all[1].clone(), last]
        };
        assert!(!complete(&changed(|last| last.key = 1)), "for another key");
        assert!(!complete(&changed(|last| last.status = "revoked".to_owned())), "for an end");
    }
}
