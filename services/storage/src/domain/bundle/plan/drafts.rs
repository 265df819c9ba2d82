//! What an entry has written, as drafts of record versions.

use hbc_types::ids::RecordId;

use super::{Draft, Entry, Planner, Present};
use crate::domain::criteria::Criteria;
use crate::domain::issue::Issue;
use crate::domain::overlay::{Overlay, OverlayError};
use crate::domain::resource::{Resource, fhir_id};

/// The version that says that a record is deleted, with the labels that it had.
pub(super) fn tombstone(kind: String, present: &Present) -> Draft {
    Draft {
        id: present.id.clone(),
        version: present.version + 1,
        deleted: true,
        kind,
        media_type: "application/fhir+json".to_owned(),
        received: 0..0,
        overlay: Overlay::default(),
        labels: present.labels,
        days: None,
        when: None,
        codes: Vec::new(),
        identifiers: Vec::new(),
        condition: None,
    }
}

impl Planner<'_> {
    /// What an entry has written: its resource, and before it what says that the one in whose place it comes is no more, where
    /// their labels differ: who may read the one alone sees nothing of the other.
    pub(super) fn draft(
        &self,
        entry: &Entry,
        id: RecordId,
        replaced: Option<Present>,
    ) -> Result<Result<Vec<Draft>, Vec<Issue>>, OverlayError> {
        let Some(resource) = entry.resource() else { return Ok(Err(Vec::new())) };
        let mut written = Vec::with_capacity(1);
        let mut version = 1;
        if let Some(present) = replaced {
            version = present.version + 1;
            if present.labels != resource.labels && !present.deleted {
                written.push(tombstone(resource.kind.clone(), &present));
                version += 1;
            }
        }
        Ok(self.resource_draft(resource, id, version, entry.condition().cloned())?.map(|draft| {
            written.push(draft);
            written
        }))
    }

    fn resource_draft(
        &self,
        resource: &Resource,
        id: RecordId,
        version: u32,
        condition: Option<Criteria>,
    ) -> Result<Result<Draft, Vec<Issue>>, OverlayError> {
        let mut issues = Vec::new();
        let references = &resource.references;
        let shown = fhir_id(&resource.kind, &id, &self.setting.account);
        let strangers = self.strangers_inside(references);
        let overlay = resource.overlay(shown, version, self.setting.now, |reference| {
            match self.resolve(references, &strangers, reference) {
                Ok(target) => target,
                Err(wrong) => {
                    issues.push(wrong.at(&reference.path));
                    None
                }
            }
        })?;
        issues.extend(self.strangers(references, &strangers));
        if !issues.is_empty() {
            return Ok(Err(issues));
        }
        let mut identifiers = resource.identifiers.clone();
        // What was created under it is found by it; what was changed says itself what it is.
        let created = condition.as_ref().filter(|_| version == 1);
        identifiers.extend(created.and_then(Criteria::identifier).cloned());
        identifiers.sort();
        identifiers.dedup();
        Ok(Ok(Draft {
            id,
            version,
            deleted: false,
            kind: resource.kind.clone(),
            media_type: "application/fhir+json".to_owned(),
            received: resource.received.clone(),
            overlay,
            labels: resource.labels,
            days: resource.days,
            when: resource.when,
            codes: resource.codes.clone(),
            identifiers,
            condition,
        }))
    }
}
