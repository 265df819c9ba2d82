//! Who acts for an organisation: it takes them in with its own key, either side ends it, and the ledger says since when.
//!
//! Whoever signed up naming an organisation asked to be taken in; nobody else can be.
//!
//! Why: decision 0116.

use ed25519_dalek::SigningKey;
use hbc_chain::json;
use hbc_chain::payload::{Affiliation, AffiliationStatus, Payload};
use hbc_chain::{bodies::Body, bodies::MemberBody, tx};
use hbc_db::Tx;
use hbc_types::account::Standing;
use hbc_types::ids::{AccountId, AgencyId};
use hbc_types::keys::PublicKey;
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{MemberStanding, MemberView, NewMember, SigningPassword};
use hbc_types::{Digest, Timestamp, hash};

use crate::app::App;
use crate::domain::custody;
use crate::error::Error;
use crate::flows::account::open_key;
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
    for known in rows.memberships_of(tx, agency).await? {
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
    let key = open_key(app, &proven.account, password).await?;
    let key = key.ok_or(Error::Broken("an agency's signing key is missing"))?;
    let active = |account: &Account| account.standing == Standing::Active;
    if body.is_some() && !(active(&sides.organisation) && active(&sides.member)) {
        return Err(Error::Conflict("both must be approved agencies"));
    }
    let status = if body.is_some() { AffiliationStatus::Active } else { AffiliationStatus::Ended };
    let now = app.clock.now();
    let fresh =
        body.map(json::encode).transpose().map_err(|_never| Error::Broken("a body without JCS form"))?;
    let fresh = fresh.map(|body| (String::from_utf8(body).unwrap_or_default(), app.random.bytes::<32>()));
    let chain = app.chain;
    let (organisation, member) = (sides.organisation_id.clone(), sides.member_id.clone());
    let kids = (custody::kid(&sides.organisation.public_key), custody::kid(&sides.member.public_key));
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                proven.still(&rows, tx).await?;
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
                let change = Change {
                    chain,
                    organisation: (organisation, kids.0),
                    member: (member, kids.1),
                    status,
                    changes,
                    body,
                    salt,
                };
                change.sign(&rows, tx, &key, now).await
            })
        })
        .await?;
    app.finality.wake();
    Ok(())
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
