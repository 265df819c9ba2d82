//! What transactions commit to besides consents and receipts: profiles, memberships, orders, erasures, releases. Each is
//! read whole: the rules are those of FORMATS §2.
//!
//! Why: decision 0115.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::json;
use crate::payload::OrderKind;
use hbc_types::Timestamp;
use hbc_types::codes::codes;
use hbc_types::digest::Digest;
use hbc_types::ids::{AccountId, AgencyId, AppId, PatientId};
use hbc_types::wire::access::{ReceiptRecord, StaffBody};

/// Bytes of a name, a function, a code system or a value at most.
const NAME_BYTES: usize = 200;
/// Bytes of a licence number at most.
const LICENCE_BYTES: usize = 64;
/// Bytes of a reason at most.
const REASON_BYTES: usize = 2_000;
/// Records of one erasure at most.
const MOST_ERASED: usize = 1_024;

codes! {
    /// Why records were erased.
    ErasureGround {
        /// The patient asked for it.
        PatientRequest = "patient-request",
        /// The account was closed.
        AccountClosed = "account-closed",
        /// A court or an authority ordered it.
        LegalOrder = "legal-order",
    }
}

codes! {
    /// By what people are counted.
    Dimension {
        /// Age, in bands.
        AgeBand = "age-band",
        /// A code of the cube's system.
        Code = "code",
        /// The month.
        Month = "month",
        /// The region.
        Region = "region",
        /// The sex.
        Sex = "sex",
    }
}

/// A body that a transaction commits to.
pub trait Body: Serialize + DeserializeOwned {
    /// What it is, for messages.
    const WHAT: &'static str;

    /// The rule that it breaks, if it breaks one.
    fn fault(&self) -> Option<&'static str>;

    /// Reads canonical JSON whole.
    ///
    /// # Errors
    /// What it is not, or the rule that it breaks.
    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let body: Self = json::decode(bytes).map_err(|_other| Self::WHAT)?;
        match body.fault() {
            Some(rule) => Err(rule),
            None => Ok(body),
        }
    }
}

fn first_broken(rules: &[(bool, &'static str)]) -> Option<&'static str> {
    rules.iter().find(|(holds, _)| !holds).map(|(_, rule)| *rule)
}

fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Body for StaffBody {
    const WHAT: &'static str = "the body is not that of a profile";

    fn fault(&self) -> Option<&'static str> {
        let Self { agency: _, agency_type: _, licence_number, name } = self;
        first_broken(&[
            (is_text(licence_number, LICENCE_BYTES), "a licence number has 1 to 64 bytes"),
            (is_text(name, NAME_BYTES), "a name has 1 to 200 bytes"),
        ])
    }
}

/// What the commitment of an `identity.member` covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberBody {
    /// Who.
    pub agency: AgencyId,
    /// As what.
    pub function: String,
    /// For whom.
    pub organisation: AgencyId,
}

impl Body for MemberBody {
    const WHAT: &'static str = "the body is not that of a membership";

    fn fault(&self) -> Option<&'static str> {
        let Self { agency, function, organisation } = self;
        first_broken(&[
            (is_text(function, NAME_BYTES), "a function has 1 to 200 bytes"),
            (agency != organisation, "nobody is a member of themselves"),
        ])
    }
}

/// What the commitment of an `operator.order` covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// What is ordered.
    pub kind: OrderKind,
    /// Why.
    pub reason: String,
    /// About what.
    pub subject: Digest,
}

/// What operators register when they let an app ask patients for access. Its canonical JSON is the `reason` of the order
/// `app-registered`, so that a change of any of it needs operators again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRegistration {
    /// Its client id.
    pub app: AppId,
    /// SHA-256 of the canonical JSON of its key set; absent for a public client (RFC 6749 §2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Digest>,
    /// In place of `jwks`: where its keys are, whichever they are at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// By which name patients see it.
    pub name: String,
    /// Who answers for it.
    pub publisher: String,
    /// Where its users are sent back to, and nowhere else.
    pub redirect_uris: Vec<String>,
    /// The most that it may ask for: SMART scopes.
    pub scope: String,
}

impl AppRegistration {
    /// The subject of the orders about an app: SHA-256 of its client id (FORMATS §5).
    #[must_use]
    pub fn subject_of(app: &AppId) -> Digest {
        Digest::of(app.as_str().as_bytes())
    }

    /// What the order's commitment covers.
    ///
    /// # Errors
    /// When it has no canonical form.
    pub fn order(&self) -> Result<OrderBody, json::JsonError> {
        let reason = String::from_utf8(json::encode(self)?)
            .map_err(|error| json::JsonError::Shape(error.to_string()))?;
        Ok(OrderBody { kind: OrderKind::AppRegistered, reason, subject: Self::subject_of(&self.app) })
    }

    /// The registration that an order's body holds, if it is one.
    #[must_use]
    pub fn of_order(body: &OrderBody) -> Option<Self> {
        let OrderBody { kind, reason, subject } = body;
        let registration: Self = json::decode(reason.as_bytes()).ok()?;
        let fits = *kind == OrderKind::AppRegistered && *subject == Self::subject_of(&registration.app);
        let is_one = registration.jwks.is_none() || registration.jwks_uri.is_none();
        (fits && is_one).then_some(registration)
    }
}

impl Body for OrderBody {
    const WHAT: &'static str = "the body is not that of an order";

    fn fault(&self) -> Option<&'static str> {
        let Self { kind: _, reason, subject: _ } = self;
        first_broken(&[(is_text(reason, REASON_BYTES), "a reason has 1 to 2,000 bytes")])
    }
}

/// What the commitment of a `record.erase` covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureBody {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: AccountId,
    /// Why.
    pub ground: ErasureGround,
    /// Whose records.
    pub patient: PatientId,
    /// Which, ascending.
    pub records: Vec<ReceiptRecord>,
}

impl Body for ErasureBody {
    const WHAT: &'static str = "the body is not that of an erasure";

    fn fault(&self) -> Option<&'static str> {
        let Self { at: _, by, ground: _, patient: _, records } = self;
        let by_owner = match by {
            AccountId::Patient(_) | AccountId::Operator(_) => true,
            AccountId::Agency(_) | AccountId::App(_) | AccountId::Device(_) => false,
        };
        first_broken(&[
            (by_owner, "patients and operators erase"),
            ((1..=MOST_ERASED).contains(&records.len()), "an erasure names 1 to 1,024 records"),
            (records.iter().all(|one| one.version >= 1), "versions begin at 1"),
            (
                records.is_sorted_by(|one, next| {
                    (one.record.as_str(), one.version) < (next.record.as_str(), next.version)
                }),
                "the records ascend",
            ),
        ])
    }
}

/// What the digest of a `statistics.release` is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    /// When.
    pub at: Timestamp,
    /// The chain.
    pub chain: Digest,
    /// The counts.
    pub cubes: Vec<Cube>,
    /// What time it covers.
    pub period: String,
    /// Counts are multiples of this.
    pub rounding: u64,
    /// What is smaller than this is not there.
    pub threshold: u64,
}

/// Counts by some dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cube {
    /// The counts, ascending by their values.
    pub cells: Vec<Cell>,
    /// By what, ascending.
    pub dimensions: Vec<Dimension>,
    /// The code system of the dimension `code`; `-` without it.
    pub system: String,
}

/// One count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// How many people.
    pub count: u64,
    /// One for each dimension.
    pub values: Vec<String>,
}

impl Body for ReleaseBody {
    const WHAT: &'static str = "the body is not that of a release";

    fn fault(&self) -> Option<&'static str> {
        let Self { at: _, chain: _, cubes, period, rounding, threshold } = self;
        let codes = |cube: &Cube| cube.dimensions.iter().map(|one| one.code()).collect::<Vec<_>>();
        first_broken(&[
            (is_text(period, NAME_BYTES), "a period has 1 to 200 bytes"),
            ((1..=1_000).contains(threshold), "a threshold is 1 to 1,000"),
            ((1..=100).contains(rounding), "a rounding is 1 to 100"),
            (
                cubes.is_sorted_by(|one, next| (&one.system, codes(one)) < (&next.system, codes(next))),
                "the cubes ascend",
            ),
        ])
        .or_else(|| cubes.iter().find_map(|cube| cube.fault(*rounding, *threshold)))
    }
}

impl Cube {
    fn fault(&self, rounding: u64, threshold: u64) -> Option<&'static str> {
        let Self { cells, dimensions, system } = self;
        let counts_codes = dimensions.contains(&Dimension::Code);
        let least = threshold.saturating_sub(rounding);
        let is_cell = |cell: &Cell| {
            cell.values.len() == dimensions.len() && cell.values.iter().all(|text| is_text(text, NAME_BYTES))
        };
        let is_count =
            |cell: &Cell| cell.count.is_multiple_of(rounding) && cell.count >= least && cell.count > 0;
        first_broken(&[
            (!dimensions.is_empty(), "a cube has a dimension"),
            (dimensions.is_sorted_by(|one, next| one.code() < next.code()), "the dimensions ascend"),
            (is_text(system, NAME_BYTES), "a code system has 1 to 200 bytes"),
            ((system != "-") == counts_codes, "a cube of codes, and no other, has a code system"),
            (cells.iter().all(is_cell), "a cell has a text for each dimension"),
            (cells.is_sorted_by(|one, next| one.values < next.values), "the cells ascend"),
            (cells.iter().all(is_count), "a count is rounded, and not small"),
        ])
    }
}
