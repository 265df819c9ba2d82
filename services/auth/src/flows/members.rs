//! Who acts for an organisation: it takes them in with its own key, either side ends it, and the ledger says since when.
//!
//! Whoever signed up naming an organisation asked to be taken in; nobody else can be.
//!
//! Why: decision 0116.

use std::collections::HashMap;

use ed25519_dalek::SigningKey;
use hbc_chain::json;
use hbc_chain::payload::{Affiliation, AffiliationStatus, Payload};
use hbc_chain::{bodies::Body, bodies::MemberBody, tx};
use hbc_db::Tx;
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, AgencyId};
use hbc_types::keys::PublicKey;
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{MemberStanding, MemberView, NewMember, SigningPassword, StaffKeyState};
use hbc_types::{Digest, Timestamp, hash};

use crate::app::App;
use crate::domain::custody::{self, Keys};
use crate::domain::staff::StaffKey;
use crate::error::Error;
use crate::flows::account::open_keys;
use crate::flows::agencies;
use crate::flows::login::{Origin, Proof, prove};
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::memberships::Membership;

/// The `kind` of these transactions in the outbox.
const KIND: &str = "identity.member";

/// The organisation and somebody who asked to belong to it.
struct Sides {
    organisation: Account,
    organisation_id: AgencyId,
    member: Account,
    member_id: AgencyId,
}

impl Sides {
    /// Finds both; a member who never asked is not found, whether there is such an agency or not.
    async fn find(app: &App, organisation: &AgencyId, member: &AgencyId) -> Result<Self, Error> {
        let of_agency = async |id: &AgencyId| agencies::find(app, id).await?.ok_or(Error::NotFound);
        let sides = Self {
            organisation: of_agency(organisation).await?,
            organisation_id: organisation.clone(),
            member: of_agency(member).await?,
            member_id: member.clone(),
        };
        match sides.member.organisation.as_ref() == Some(organisation) {
            true => Ok(sides),
            false => Err(Error::NotFound),
        }
    }

    async fn view(&self, app: &App) -> Result<MemberView, Error> {
        let reads = app.store.db.reads();
        let membership = app.store.rows.membership(reads, &self.organisation_id, &self.member_id).await?;
        view(&self.organisation_id, &self.member, membership.as_ref())
    }
}

/// The organisation takes somebody in, with its password. Asking again changes nothing.
pub async fn take_in(
    app: &App,
    organisation: &AgencyId,
    member: &AgencyId,
    new: NewMember,
    origin: Origin,
) -> Result<MemberView, Error> {
    let sides = Sides::find(app, organisation, member).await?;
    let body = MemberBody {
        agency: member.clone(),
        function: new.function.trim().to_owned(),
        organisation: organisation.clone(),
    };
    if let Some(rule) = body.fault() {
        return Err(Error::invalid("function", rule));
    }
    let proof = Proof { password: new.password, totp: new.totp, origin };
    change(app, &sides, &sides.organisation, proof, Some(&body)).await?;
    sides.view(app).await
}

/// Either side ends it, with its own password. Ending again changes nothing.
pub async fn end(
    app: &App,
    caller: &AgencyId,
    (organisation, member): (&AgencyId, &AgencyId),
    end: SigningPassword,
    origin: Origin,
) -> Result<MemberView, Error> {
    let sides = Sides::find(app, organisation, member).await?;
    let own = if caller == organisation { &sides.organisation } else { &sides.member };
    let proof = Proof { password: end.password, totp: end.totp, origin };
    change(app, &sides, own, proof, None).await?;
    sides.view(app).await
}

/// The word of an agency that goes.
#[derive(Clone)]
pub struct Leaving {
    /// The chain.
    pub chain: Digest,
    /// Its staff key, opened for this.
    pub key: SigningKey,
}

/// Ends whatever binds an agency that closes its account: it leaves, and dismisses whom it took in. A change that the ledger has
/// not followed yet is left as it is: the other side ends it once it is final, and until then access-policy counts no
/// membership of a closed account.
pub async fn leave_all(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    leaving: &Leaving,
    now: Timestamp,
) -> Result<(), Error> {
    for known in rows.memberships_of_either(tx, agency).await? {
        if !known.is_in_force() {
            continue;
        }
        let organisation = rows.account(&mut *tx, known.organisation.as_str()).await?;
        let member = rows.account(&mut *tx, known.member.as_str()).await?;
        let (Some(organisation), Some(member)) = (organisation, member) else { continue };
        let change = Change {
            chain: leaving.chain,
            organisation: (known.organisation, custody::kid(&organisation.public_key)),
            member: (known.member, custody::kid(&member.public_key)),
            status: AffiliationStatus::Ended,
            changes: known.changes,
            body: known.body,
            salt: known.salt,
        };
        change.sign(rows, tx, &leaving.key, now).await?;
    }
    Ok(())
}

/// Signs a change with the key of one side and owes it to the ledger; `body` where somebody is taken in.
async fn change(
    app: &App,
    sides: &Sides,
    signer: &Account,
    proof: Proof,
    body: Option<&MemberBody>,
) -> Result<(), Error> {
    let password = proof.password.clone();
    let proven = prove(app, &signer.username, proof).await?;
    let opened = open_keys(app, &proven.account, password).await?;
    let Keys { key, other } = opened.ok_or(Error::Broken("an agency's signing key is missing"))?.keys;
    let active = |account: &Account| account.standing == Standing::Active;
    if body.is_some() && !(active(&sides.organisation) && active(&sides.member)) {
        return Err(Error::Conflict("both must be approved agencies"));
    }
    let fresh =
        body.map(json::encode).transpose().map_err(|_never| Error::Broken("a body without JCS form"))?;
    let fresh = fresh.map(|body| (String::from_utf8(body).unwrap_or_default(), app.random.bytes::<32>()));
    // Under a key that waits as well, so that it holds when that one is there.
    let next = match (&fresh, other) {
        (Some((body, salt)), Some(next)) => {
            let payload = first_payload(app, &next, &sides.member, (body, salt));
            let jws = tx::sign(&next, &payload).map_err(|_never| Error::Broken("no JCS form"))?;
            Some((custody::public_key(&next), jws))
        }
        _ => None,
    };
    let signing = Signing {
        chain: app.chain,
        organisation: (sides.organisation_id.clone(), sides.organisation.public_key),
        member: (sides.member_id.clone(), sides.member.public_key),
        key,
        status: if body.is_some() { AffiliationStatus::Active } else { AffiliationStatus::Ended },
        fresh,
        next,
    };
    let now = app.clock.now();
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                proven.still(&rows, tx).await?;
                change_in(&rows, tx, signing, now).await
            })
        })
        .await?;
    app.finality.wake();
    Ok(())
}

/// A change of who acts for an organisation, with what signs it.
#[derive(Clone, Debug)]
struct Signing {
    chain: Digest,
    /// The organisation and its key.
    organisation: (AgencyId, [u8; 32]),
    /// Who it is about, and their key.
    member: (AgencyId, [u8; 32]),
    /// The key of the side that signs.
    key: SigningKey,
    status: AffiliationStatus,
    /// Text and salt, where somebody is taken in.
    fresh: Option<(String, [u8; 32])>,
    /// The signer's other key, and what it signed.
    next: Option<([u8; 32], String)>,
}

async fn change_in(rows: &Rows, tx: &mut Tx, signing: Signing, now: Timestamp) -> Result<(), Error> {
    let Signing { chain, organisation, member, key, status, fresh, next } = signing;
    for (id, key) in [&organisation, &member] {
        let account = rows.account(&mut *tx, id.as_str()).await?;
        if account.is_none_or(|account| account.public_key != *key) {
            return Err(Error::Conflict("one of the two has another key now"));
        }
    }
    let kids = (custody::kid(&organisation.1), custody::kid(&member.1));
    let (organisation, member) = (organisation.0, member.0);
    let known = rows.membership(&mut *tx, &organisation, &member).await?;
    if known.as_ref().is_some_and(|known| known.status == status) {
        return Ok(());
    }
    if known.as_ref().is_some_and(|known| known.final_at.is_none()) {
        return Err(Error::Conflict("an earlier change is not final yet"));
    }
    let changes = known.as_ref().map_or(0, |known| known.changes);
    // What ends is what was begun: its body stays.
    let opening = fresh.or_else(|| known.map(|known| (known.body, known.salt)));
    let (body, salt) = opening.ok_or(Error::Conflict("they were never taken in"))?;
    if let Some((next, jws)) = &next {
        let keys = rows.staff_keys(&mut *tx, &organisation).await?;
        let is_next = |key: &StaffKey| key.state() == StaffKeyState::Pending && key.public_key == *next;
        if keys.iter().any(is_next) {
            rows.put_next_membership(tx, &organisation, &member, jws).await?;
        }
    }
    let (organisation, member) = ((organisation, kids.0), (member, kids.1));
    Change { chain, organisation, member, status, changes, body, salt }.sign(rows, tx, &key, now).await
}

/// What an organisation's next key signs about those whom its present one took in: the same, as far as they did not end it.
pub async fn sign_anew(
    app: &App,
    organisation: &AgencyId,
    next: &SigningKey,
) -> Result<Vec<(AgencyId, String)>, Error> {
    let reads = app.store.db.reads();
    let mut signed = Vec::new();
    for known in app.store.rows.memberships_of(reads, organisation).await? {
        let member = agencies::find(app, &known.member).await?;
        let Some(member) = member.filter(|_found| known.status == AffiliationStatus::Active) else {
            continue;
        };
        let payload = first_payload(app, next, &member, (&known.body, &known.salt));
        let jws = tx::sign(next, &payload).map_err(|_never| Error::Broken("no JCS form"))?;
        signed.push((known.member, jws));
    }
    Ok(signed)
}

/// What takes somebody in under a key that never did.
fn first_payload(
    app: &App,
    organisation: &SigningKey,
    member: &Account,
    (body, salt): (&str, &[u8; 32]),
) -> Payload {
    Payload::Affiliation(Affiliation {
        chain: app.chain,
        commitment: hash::member(salt, body.as_bytes()),
        iat: app.clock.now().unsigned_ms(),
        key: custody::kid(&member.public_key),
        nonce: 0,
        organisation: PublicKey::of(organisation).kid(),
        status: AffiliationStatus::Active,
    })
}

/// The organisation that took an agency in.
pub async fn organisation_of(
    app: &App,
    member: &AgencyId,
    account: &Account,
) -> Result<Option<AgencyId>, Error> {
    let Some(organisation) = &account.organisation else { return Ok(None) };
    let known = app.store.rows.membership(app.store.db.reads(), organisation, member).await?;
    let acts = known.is_some_and(|known| known.status == AffiliationStatus::Active);
    Ok(acts.then(|| organisation.clone()))
}

/// An agency has another key now. Whom it took in it takes in under that one, as it signed when it asked for the key; the
/// others begin anew, and so does its own place in an organisation, which says itself whether that key acts for it.
pub async fn follow(
    rows: &Rows,
    tx: &mut Tx,
    agency: &AgencyId,
    account: &Account,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(organisation) = &account.organisation {
        rows.forget_membership(tx, organisation, agency).await?;
    }
    let mut signed: HashMap<_, _> = rows.take_next_memberships(tx, agency).await?.into_iter().collect();
    for known in rows.memberships_of(&mut *tx, agency).await? {
        let member = rows.account(&mut *tx, known.member.as_str()).await?;
        let next = signed.remove(&known.member).and_then(|jws| tx::Tx::parse(jws.as_bytes()).ok());
        let next = next.zip(member).filter(|(next, member)| holds(next, account, member, &known));
        let Some((next, _member)) = next else {
            rows.forget_membership(tx, agency, &known.member).await?;
            continue;
        };
        let reference = format!("{agency}/{}", known.member);
        let membership =
            Membership { changes: 0, txid: next.txid(), signed_at: now, final_at: None, ..known };
        rows.put_membership(tx, &membership).await?;
        let (txid, author, jws) = (next.txid(), next.kid(), next.text().to_owned());
        let owed = NewTransaction { txid, author, kind: KIND.to_owned(), reference, jws };
        hbc_db::outbox::enqueue(tx, &owed, now).await?;
    }
    Ok(())
}

/// Whether what was signed for the next key is still what stands: the same words, of the same two.
fn holds(next: &tx::Tx, organisation: &Account, member: &Account, known: &Membership) -> bool {
    let Payload::Affiliation(change) = next.payload() else { return false };
    known.status == AffiliationStatus::Active
        && change.organisation == custody::kid(&organisation.public_key)
        && change.key == custody::kid(&member.public_key)
        && change.commitment == hash::member(&known.salt, known.body.as_bytes())
}

/// A change of a membership that one side signs.
struct Change {
    chain: Digest,
    /// Who, and the kid of their staff key.
    organisation: (AgencyId, Digest),
    member: (AgencyId, Digest),
    status: AffiliationStatus,
    /// Changes that are final.
    changes: u64,
    body: String,
    salt: [u8; 32],
}

impl Change {
    /// Signs it, stores it in the place of the one before, and owes it to the ledger.
    async fn sign(self, rows: &Rows, tx: &mut Tx, key: &SigningKey, now: Timestamp) -> Result<(), Error> {
        let Self { chain, organisation, member, status, changes, body, salt } = self;
        let payload = Payload::Affiliation(Affiliation {
            chain,
            commitment: hash::member(&salt, body.as_bytes()),
            iat: now.unsigned_ms(),
            key: member.1,
            nonce: changes,
            organisation: organisation.1,
            status,
        });
        let jws = tx::sign(key, &payload).map_err(|_never| Error::Broken("no JCS form"))?;
        let txid = tx::txid(jws.as_bytes());
        let (organisation, member) = (organisation.0, member.0);
        let reference = format!("{organisation}/{member}");
        let membership = Membership {
            organisation,
            member,
            status,
            changes,
            body,
            salt,
            txid,
            signed_at: now,
            final_at: None,
        };
        rows.put_membership(tx, &membership).await?;
        let (author, kind) = (PublicKey::of(key).kid(), KIND.to_owned());
        let owed = NewTransaction { txid, author, kind, reference, jws };
        Ok(hbc_db::outbox::enqueue(tx, &owed, now).await?)
    }
}

/// A change is in a final block. Runs in the transaction that applies it.
pub async fn finalised(rows: &Rows, tx: &mut Tx, txid: Digest, now: Timestamp) -> Result<(), Error> {
    let Some(mut membership) = rows.membership_by_txid(tx, txid).await? else { return Ok(()) };
    if membership.final_at.is_none() {
        membership.final_at = Some(now);
        membership.changes += 1;
        rows.put_membership(tx, &membership).await?;
    }
    Ok(())
}

/// The ledger refused a change for ever: what was before holds.
pub async fn refused(rows: &Rows, tx: &mut Tx, txid: Digest, now: Timestamp) -> Result<(), Error> {
    let Some(mut membership) = rows.membership_by_txid(tx, txid).await? else { return Ok(()) };
    if membership.final_at.is_none() {
        membership.status = match membership.status {
            AffiliationStatus::Active => AffiliationStatus::Ended,
            AffiliationStatus::Ended => AffiliationStatus::Active,
        };
        membership.final_at = Some(now);
        rows.put_membership(tx, &membership).await?;
    }
    Ok(())
}

/// One page of those who asked to belong to an organisation, and how each stands; where the next one begins.
pub async fn list(
    app: &App,
    organisation: &AgencyId,
    after: &str,
    limit: u32,
) -> Result<(Vec<MemberView>, Option<String>), Error> {
    let reads = app.store.db.reads();
    let (members, next) = app.store.rows.agencies_of(reads, organisation, after, limit).await?;
    let mut views = Vec::with_capacity(members.len());
    for member in &members {
        let AccountId::Agency(id) = &member.id else { continue };
        let membership = app.store.rows.membership(reads, organisation, id).await?;
        if member.standing == Standing::Closed && membership.is_none() {
            // They ask no more.
            continue;
        }
        views.push(view(organisation, member, membership.as_ref())?);
    }
    Ok((views, next))
}

fn view(
    organisation: &AgencyId,
    member: &Account,
    membership: Option<&Membership>,
) -> Result<MemberView, Error> {
    let AccountId::Agency(agency) = member.id.clone() else { return Err(Error::NotFound) };
    let standing = match membership.map(|membership| membership.status) {
        None => MemberStanding::Asked,
        Some(AffiliationStatus::Active) => MemberStanding::Active,
        Some(AffiliationStatus::Ended) => MemberStanding::Ended,
    };
    let body = membership.and_then(|membership| MemberBody::read(membership.body.as_bytes()).ok());
    Ok(MemberView {
        agency,
        organisation: organisation.clone(),
        name: member.contact.name.clone().unwrap_or_default(),
        standing,
        function: body.map(|body| body.function),
        transaction: membership.map(|membership| membership.txid),
        final_at: membership.and_then(|membership| membership.final_at),
    })
}
