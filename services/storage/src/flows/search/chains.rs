//! Chains and `_has`: what is asked of other records is answered first, as a set of what may be named.

use std::collections::HashSet;

use crate::app::App;
use crate::domain::reference::Target;
use crate::domain::search::facts::Fact;
use crate::domain::search::matching::{Clause, Named, Test};
use crate::domain::search::query::{Chain, Query, Reverse};
use crate::error::Error;
use crate::flows::search::{Searcher, find_beside, name_of};

/// The clauses of a query, with those that speak of other records made into sets. Only what may be read is looked at.
pub async fn resolve(
    app: &App,
    searcher: &Searcher,
    kind: &str,
    query: &Query,
) -> Result<Vec<Clause>, Error> {
    let mut clauses = query.clauses.clone();
    for chain in &query.chains {
        clauses.push(forward(app, searcher, chain).await?);
    }
    for reverse in &query.reverse {
        clauses.push(backward(app, searcher, kind, reverse).await?);
    }
    in_one_name(app, searcher, &mut clauses).await?;
    Ok(clauses)
}

async fn forward(app: &App, searcher: &Searcher, chain: &Chain) -> Result<Clause, Error> {
    let mut named = HashSet::new();
    for (kind, clause) in &chain.any {
        if !searcher.may_search(kind) {
            return Err(Error::InsufficientScope);
        }
        let mut clauses = vec![clause.clone()];
        in_one_name(app, searcher, &mut clauses).await?;
        let found = find_beside(app, searcher, kind, &clauses, None).await?;
        named.extend(found.iter().map(|(_, hit)| name_of(&hit.trusted)));
    }
    Ok(Clause { name: chain.name.clone(), test: Test::Among(named) })
}

async fn backward(app: &App, searcher: &Searcher, kind: &str, reverse: &Reverse) -> Result<Clause, Error> {
    if !searcher.may_search(&reverse.kind) {
        return Err(Error::InsufficientScope);
    }
    let mut clauses = vec![reverse.clause.clone()];
    in_one_name(app, searcher, &mut clauses).await?;
    let mut ids = HashSet::new();
    for (_, hit) in find_beside(app, searcher, &reverse.kind, &clauses, Some(&reverse.name)).await? {
        for fact in &hit.told {
            let Fact::Reference(Some(text), _, _) = fact else { continue };
            if let Target::Own { kind: named, id } = Target::parse(text, &searcher.bases)
                && named == kind
            {
                ids.insert(id);
            }
        }
    }
    Ok(Clause { name: "_id".to_owned(), test: Test::Among(ids) })
}

/// The account's Patient is known by the account; a query may name its record.
async fn in_one_name(app: &App, searcher: &Searcher, clauses: &mut [Clause]) -> Result<(), Error> {
    let by_record = |named: &Named| match named {
        Named::Id(id) => id.starts_with("rec-"),
        Named::Key(key, _) => key.starts_with("Patient/rec-"),
        Named::Text(_) | Named::Nothing => false,
    };
    let asks = clauses.iter().any(|clause| match &clause.test {
        Test::Reference(named) => named.iter().any(by_record),
        _ => false,
    });
    if !asks || searcher.patient.is_directory() {
        return Ok(());
    }
    let Some(record) = app.store.patient_record(&app.index.patient(&searcher.patient)).await? else {
        return Ok(());
    };
    let account = searcher.patient.as_str();
    for clause in clauses {
        let Test::Reference(named) = &mut clause.test else { continue };
        for one in named.iter_mut() {
            let is_patient = match one {
                Named::Id(id) => id == record.as_str(),
                Named::Key(key, _) => key.strip_prefix("Patient/") == Some(record.as_str()),
                Named::Text(_) | Named::Nothing => false,
            };
            if is_patient {
                let key = format!("Patient/{account}");
                *one = Named::Key(key.clone(), key);
            }
        }
    }
    Ok(())
}
