//! The policy engine: Cedar with a handful of static policies and the candidate grant in the request.
//!
//! It answers one question at a time and knows nothing of databases or HTTP. Policies are validated strictly against
//! their schema when the service starts; a policy that cannot be evaluated makes the whole answer a denial, because
//! Cedar itself would skip it, and a skipped `forbid` would open a door.
//!
//! Why: decision 0053.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use hbc_types::account::{AgencyType, Role, Standing};
use hbc_types::codes::codes;
use hbc_types::ids::{AccountId, AgencyId, GranteeId, PatientId};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{Labels, Scope};
use hbc_types::{Digest, Timestamp};

use crate::domain::grant::Grant;

/// The schema, as committed.
pub const SCHEMA: &str = include_str!("access.cedarschema");
/// The policies, as committed.
pub const POLICIES: &str = include_str!("access.cedar");

/// The rule of a denial that no policy decided: nothing permitted it.
pub const NO_GRANT: &str = "no-grant";
/// The rule of a denial because the policies could not be evaluated.
pub const EVALUATION_FAILED: &str = "evaluation-failed";

/// The policies cannot be used: the service must not start.
#[derive(Debug, thiserror::Error)]
pub enum PolicyLoadError {
    /// Schema or policies do not parse.
    #[error("the policies cannot be read: {0}")]
    Parse(String),
    /// Strict validation found something.
    #[error("the policies do not fit their schema: {0}")]
    Validation(String),
}

codes! {
    /// What this service knows of the session behind an access token.
    SessionState {
        /// auth told that it began, and not that it ended.
        Open = "open",
        /// It ended.
        Ended = "ended",
        /// auth never told of it, or it was another account's, or its time is over: whoever holds the key that signs access
        /// tokens opens nothing with it alone.
        Unknown = "unknown",
    }
}

/// An account as this service's own rows describe it; nothing comes from token claims but the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who calls.
    pub account: AccountId,
    /// How the account stands; `Suspended` also for one that auth never told of.
    pub standing: Standing,
    /// How their session stands.
    pub session: SessionState,
    /// Agencies: what kind.
    pub agency_type: Option<AgencyType>,
    /// The organisation they belong to, if that one is active.
    pub organisation: Option<AgencyId>,
    /// What kind of agency that organisation is.
    pub organisation_type: Option<AgencyType>,
    /// Apps: what their token says, which narrows what they may do.
    pub bound: Option<Bound>,
    /// Devices: kid of their key.
    pub device_key: Option<Digest>,
}

/// To what an app's token holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whose records.
    pub patient: PatientId,
    /// Whether the app may go on when the patient is not there.
    pub offline: bool,
    /// The categories that its scopes reach; nothing for all of them.
    pub categories: Option<BTreeSet<Category>>,
}

impl Principal {
    /// The role that the account's id tells.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.account.role()
    }

    /// Whether it reads for a government: as one, or as a member of one.
    #[must_use]
    pub fn is_of_government(&self) -> bool {
        [self.agency_type, self.organisation_type].contains(&Some(AgencyType::Government))
    }

    /// Whether a grant may cover this account: it is to the agency, its organisation, the app or the device. One to a device is to
    /// the key that the patient compared: with another key it is another device.
    #[must_use]
    pub fn is_covered_by(&self, grant: &Grant) -> bool {
        match (&self.account, &grant.grantee) {
            (AccountId::Agency(id), GranteeId::Agency(grantee)) => {
                id == grantee || self.organisation.as_ref() == Some(grantee)
            }
            (AccountId::App(id), GranteeId::App(grantee)) => id == grantee,
            (AccountId::Device(id), GranteeId::Device(grantee)) => {
                id == grantee && grant.device.is_some() && grant.device == self.device_key
            }
            _ => false,
        }
    }
}

/// One question: may `principal` do `action` with records so labelled, for `purpose`, under `grant`?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// What they want to do.
    pub action: Action,
    /// Whose records.
    pub patient: &'a PatientId,
    /// Their labels.
    pub labels: Labels,
    /// Why.
    pub purpose: Purpose,
    /// When.
    pub now: Timestamp,
    /// The grant that might open them.
    pub grant: Option<&'a Grant>,
}

/// What the policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that decided, in the order of the file; [`NO_GRANT`] when none did.
    pub rules: Vec<String>,
}

impl Ruling {
    /// The first deciding rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.rules.first().map_or(NO_GRANT, String::as_str)
    }
}

/// The loaded policies.
#[derive(Debug)]
pub struct PolicyEngine {
    authorizer: Authorizer,
    policies: PolicySet,
    schema: Schema,
    order: HashMap<PolicyId, usize>,
    names: PolicyNames,
}

/// Parsed once: reading Cedar's names costs more than a decision.
#[derive(Debug)]
struct PolicyNames {
    patient: EntityTypeName,
    agency: EntityTypeName,
    operator: EntityTypeName,
    app: EntityTypeName,
    device: EntityTypeName,
    records: EntityUid,
    read: EntityUid,
    write: EntityUid,
    answer: EntityUid,
}

impl PolicyEngine {
    /// Loads and strictly validates the committed policies.
    pub fn load() -> Result<Self, PolicyLoadError> {
        Self::from_texts(SCHEMA, POLICIES)
    }

    fn from_texts(schema: &str, policies: &str) -> Result<Self, PolicyLoadError> {
        let parse = |error: &dyn std::error::Error| PolicyLoadError::Parse(error.to_string());
        let (schema, warnings) = Schema::from_cedarschema_str(schema).map_err(|error| parse(&error))?;
        if let Some(warning) = warnings.into_iter().next() {
            return Err(PolicyLoadError::Validation(warning.to_string()));
        }
        let parsed: PolicySet = policies.parse().map_err(|error| parse(&error))?;
        let mut named: Vec<Policy> = parsed.policies().cloned().collect();
        // Parsed policies are called policy0, policy1, …: that number is their place in the file.
        named.sort_by_key(|policy| {
            policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
        });
        let mut set = PolicySet::new();
        let mut order = HashMap::new();
        for (place, policy) in named.into_iter().enumerate() {
            let id = policy
                .annotation("id")
                .map(PolicyId::new)
                .ok_or_else(|| PolicyLoadError::Validation("a policy has no @id".to_owned()))?;
            order.insert(id.clone(), place);
            set.add(policy.new_id(id)).map_err(|error| parse(&error))?;
        }
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !result.validation_passed_without_warnings() {
            return Err(PolicyLoadError::Validation(result.to_string()));
        }
        let names = PolicyNames::parse().map_err(|error| parse(&error))?;
        Ok(Self { authorizer: Authorizer::new(), policies: set, schema, order, names })
    }

    /// The ids of all policies, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        let mut rules: Vec<_> = self.order.iter().collect();
        rules.sort_by_key(|(_, place)| **place);
        rules.into_iter().map(|(id, _)| id.to_string()).collect()
    }

    /// Decides. An error of any kind is a denial and an alarm in the log.
    #[must_use]
    pub fn rule(&self, question: &Question<'_>) -> Ruling {
        let (request, entities) = match self.request(question) {
            Ok(request) => request,
            Err(error) => return failed(&error),
        };
        let response = self.authorizer.is_authorized(&request, &self.policies, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return failed(&error.to_string());
        }
        let mut rules: Vec<&PolicyId> = response.diagnostics().reason().collect();
        rules.sort_by_key(|id| self.order.get(*id).copied().unwrap_or(usize::MAX));
        let mut rules: Vec<String> = rules.into_iter().map(ToString::to_string).collect();
        let allowed = response.decision() == Decision::Allow;
        if !allowed && rules.is_empty() {
            rules.push(NO_GRANT.to_owned());
        }
        Ruling { allowed, rules }
    }

    fn request(&self, question: &Question<'_>) -> Result<(Request, Entities), String> {
        // Without `..`, here and below: a field that is added does not compile until the policies are told or it is left
        // out by name.
        let Question { principal, action, patient, labels, purpose, now, grant } = *question;
        let text = |error: &dyn std::error::Error| error.to_string();
        let names = &self.names;
        let who = names.account(&principal.account);
        let principal = Entity::new(who.clone(), names.principal(principal), HashSet::new())
            .map_err(|error| text(&error))?;
        let attributes = names.record_attributes(patient, labels);
        let records =
            Entity::new(names.records.clone(), attributes, HashSet::new()).map_err(|error| text(&error))?;
        let mut context = vec![
            ("purpose".to_owned(), string(purpose.code())),
            ("now".to_owned(), RestrictedExpression::new_long(now.ms())),
        ];
        if let Some(grant) = grant {
            context.push(("grant".to_owned(), names.grant(grant).map_err(|error| text(&error))?));
        }
        let context = Context::from_pairs(context).map_err(|error| text(&error))?;
        let action = names.action(action).clone();
        let request = Request::new(who, action, names.records.clone(), context, Some(&self.schema))
            .map_err(|error| text(&error))?;
        let entities = Entities::from_entities([principal, records], None).map_err(|error| text(&error))?;
        Ok((request, entities))
    }
}

fn failed(error: &str) -> Ruling {
    tracing::error!(alarm = "policy_evaluation", error, "A decision was denied because the policies failed");
    Ruling { allowed: false, rules: vec![EVALUATION_FAILED.to_owned()] }
}

fn reference(kind: &EntityTypeName, id: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id)))
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.map(string))
}

impl PolicyNames {
    fn parse() -> Result<Self, Box<cedar_policy::ParseErrors>> {
        let action: EntityTypeName = "Action".parse()?;
        let act = |name: &str| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(name));
        Ok(Self {
            patient: "Patient".parse()?,
            agency: "Agency".parse()?,
            operator: "Operator".parse()?,
            app: "App".parse()?,
            device: "Device".parse()?,
            records: EntityUid::from_type_name_and_id("Records".parse()?, EntityId::new("asked")),
            read: act("read"),
            write: act("write"),
            answer: act("answer"),
        })
    }

    const fn action(&self, action: Action) -> &EntityUid {
        match action {
            Action::Read => &self.read,
            Action::Write => &self.write,
            Action::Answer => &self.answer,
        }
    }

    fn account(&self, account: &AccountId) -> EntityUid {
        let kind = match account {
            AccountId::Patient(_) => &self.patient,
            AccountId::Agency(_) => &self.agency,
            AccountId::Operator(_) => &self.operator,
            AccountId::App(_) => &self.app,
            AccountId::Device(_) => &self.device,
        };
        EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(account.as_str()))
    }

    fn agency_ref(&self, id: &AgencyId) -> RestrictedExpression {
        reference(&self.agency, id.as_str())
    }

    fn patient_ref(&self, id: &PatientId) -> RestrictedExpression {
        reference(&self.patient, id.as_str())
    }

    /// The field of a grant that says to whom it is, by the kind. A link is nobody that calls.
    fn grantee(&self, grantee: &GranteeId) -> Option<(&'static str, RestrictedExpression)> {
        match grantee {
            GranteeId::Agency(id) => Some(("agency", reference(&self.agency, id.as_str()))),
            GranteeId::App(id) => Some(("app", reference(&self.app, id.as_str()))),
            GranteeId::Device(id) => Some(("device", reference(&self.device, id.as_str()))),
            GranteeId::Link(_) => None,
        }
    }

    fn principal(&self, principal: &Principal) -> HashMap<String, RestrictedExpression> {
        let Principal {
            account,
            standing,
            session,
            agency_type,
            organisation,
            organisation_type,
            bound,
            // Whether a grant is to this key is seen where candidates are chosen.
            device_key: _,
        } = principal;
        let mut attributes = HashMap::from([
            ("standing".to_owned(), string(standing.code())),
            ("session".to_owned(), string(session.code())),
        ]);
        if let AccountId::Agency(_) = account {
            // An agency without a known kind gets none that a policy names.
            let kind = agency_type.map_or("unknown", AgencyType::code);
            attributes.insert("kind".to_owned(), string(kind));
            if let Some(organisation) = organisation {
                attributes.insert("organisation".to_owned(), self.agency_ref(organisation));
                let kind = organisation_type.map_or("unknown", AgencyType::code);
                attributes.insert("organisation_kind".to_owned(), string(kind));
            }
        }
        if let (AccountId::App(_), Some(Bound { patient, offline, categories: _ })) = (account, bound) {
            attributes.insert("patient".to_owned(), self.patient_ref(patient));
            attributes.insert("offline".to_owned(), RestrictedExpression::new_bool(*offline));
        }
        attributes
    }

    fn record_attributes(
        &self,
        patient: &PatientId,
        labels: Labels,
    ) -> HashMap<String, RestrictedExpression> {
        let Labels { category, sensitivity } = labels;
        let directory = patient.is_directory();
        let mut attributes = HashMap::from([
            ("directory".to_owned(), RestrictedExpression::new_bool(directory)),
            ("category".to_owned(), string(category.code())),
            ("sensitivity".to_owned(), string(sensitivity.code())),
        ]);
        if !directory {
            attributes.insert("patient".to_owned(), self.patient_ref(patient));
        }
        attributes
    }

    fn grant(
        &self,
        grant: &Grant,
    ) -> Result<RestrictedExpression, cedar_policy::ExpressionConstructionError> {
        let Grant {
            grantee,
            offline,
            patient,
            scope,
            final_height,
            frozen_at,
            revoked_at,
            altered_by,
            ended_at,
            // Whether it is the caller's key is seen where candidates are chosen.
            device: _,
            // What the grant is known by, and how it came to be.
            id: _,
            request: _,
            custody: _,
            given_at: _,
            draft_expires_at: _,
            kid: _,
            seq: _,
            txid: _,
            signed_at: _,
            refused: _,
            revoked_by: _,
            // With `future_records`, the limit that a verdict carries ([`crate::domain::decision::PastOnly`]).
            numbers: _,
        } = grant;
        let Scope { actions, categories, sensitivities, purposes, from, until, future_records: _ } = scope;
        let yes = RestrictedExpression::new_bool;
        let mut fields = vec![
            ("patient", self.patient_ref(patient)),
            ("final", yes(final_height.is_some())),
            ("frozen", yes(frozen_at.is_some())),
            ("altered", yes(altered_by.is_some())),
            ("revoked", yes(revoked_at.is_some() || ended_at.is_some())),
            ("actions", strings(actions.iter().map(|action| action.code()))),
            ("categories", strings(categories.iter().map(|category| category.code()))),
            ("sensitivities", strings(sensitivities.iter().map(|sensitivity| sensitivity.code()))),
            ("purposes", strings(purposes.iter().map(|purpose| purpose.code()))),
            ("from", RestrictedExpression::new_long(from.ms())),
            ("until", RestrictedExpression::new_long(until.ms())),
        ];
        fields.extend(self.grantee(grantee));
        fields.extend(offline.map(|offline| ("offline", yes(offline))));
        RestrictedExpression::new_record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_policies_fit_their_schema() {
        let engine = PolicyEngine::load().unwrap();
        assert!(engine.rules().contains(&"own-records".to_owned()));
        assert!(engine.rules().len() >= 10);
    }

    #[test]
    fn a_policy_about_something_unknown_does_not_load() {
        let extra = format!(
            "{POLICIES}\n@id(\"x\") permit (principal, action, resource) when {{ resource.colour }};"
        );
        assert!(matches!(PolicyEngine::from_texts(SCHEMA, &extra), Err(PolicyLoadError::Validation(_))));
        let nameless = format!("{POLICIES}\nforbid (principal, action, resource);");
        assert!(matches!(PolicyEngine::from_texts(SCHEMA, &nameless), Err(PolicyLoadError::Validation(_))));
        assert!(matches!(PolicyEngine::from_texts(SCHEMA, "permit"), Err(PolicyLoadError::Parse(_))));
    }
}
