//! Pages of results. A page begins beside a record that is named by the link, whose place in the order is computed anew: pages
//! stay where they are while others write, and no value of a record stands in a URL.

use std::cmp::Ordering;

use hbc_types::Timestamp;
use hbc_types::ids::RecordId;

use crate::app::App;
use crate::domain::search::parameters::parameters;
use crate::domain::search::sorting::{Key, compare, keys};
use crate::error::Error;
use crate::flows::indexing;
use crate::flows::read::{MAX_BYTES, Range};
use crate::flows::search::find::add_row;
use crate::flows::search::{AT_ONCE, Account, Found, Hit, MOST_CANDIDATES, Sought};
use crate::store::{Filter, TrustedRow};

/// Beside which record a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// When it was created.
    pub at: Timestamp,
    /// Whether the page ends before it instead of beginning after it.
    pub back: bool,
}

impl Place {
    fn beside(trusted: &TrustedRow, back: bool) -> Self {
        let row = &trusted.row;
        Self { id: row.id.clone(), version: row.version, at: row.created_at, back }
    }
}

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// Its rows.
    pub rows: Vec<TrustedRow>,
    /// How many there are in all.
    pub total: u64,
    /// Where the next one begins.
    pub next: Option<Place>,
    /// Where the one before ends.
    pub previous: Option<Place>,
}

/// The page of what was found that begins at a place.
pub async fn page(
    app: &App,
    accounts: &[Account],
    sought: &Sought,
    found: Found,
    (place, limit): (Option<&Place>, usize),
) -> Result<Page, Error> {
    let total = found.hits.len();
    let bounds = match place {
        None => (0, total.min(limit)),
        Some(place) => {
            let keys = keys_of(app, accounts, sought, place).await?;
            let order = |hit: &Hit| {
                let row = &hit.trusted.row;
                let by_place = || (row.created_at, &row.id).cmp(&(place.at, &place.id));
                compare(&hit.keys, &keys, &sought.order).then_with(by_place)
            };
            if place.back {
                let end = found.hits.partition_point(|hit| order(hit) == Ordering::Less);
                (end.saturating_sub(limit), end)
            } else {
                let start = found.hits.partition_point(|hit| order(hit) != Ordering::Greater);
                (start, total.min(start.saturating_add(limit)))
            }
        }
    };
    let lengths = found.hits.iter().map(|hit| hit.trusted.row.length);
    let (start, end) = fitting(lengths, bounds, place.is_some_and(|place| place.back));
    let rows: Vec<TrustedRow> =
        found.hits.into_iter().skip(start).take(end - start).map(|hit| hit.trusted).collect();
    Ok(Page {
        total: total as u64,
        next: rows.last().filter(|_| end < total).map(|row| Place::beside(row, false)),
        previous: rows.first().filter(|_| start > 0).map(|row| Place::beside(row, true)),
        rows,
    })
}

/// The place in the order of the record that a link names.
async fn keys_of(
    app: &App,
    accounts: &[Account],
    sought: &Sought,
    place: &Place,
) -> Result<Vec<Option<Key>>, Error> {
    if sought.order.is_empty() {
        return Ok(Vec::new());
    }
    let lost = || Error::invalid("_cursor", "names a record that is not there any more: begin anew");
    let stored = app.store.record(&place.id, Some(place.version)).await?.ok_or_else(lost)?;
    let trusted = TrustedRow::open(&app.index, stored)?;
    // Whose it is, and that it may be read, is asked as of every other.
    let may_be_read = accounts.iter().any(|account| {
        trusted.row.kind == sought.kind
            && trusted.secret.patient == account.range.patient
            && account.range.readable.covers(trusted.labels(), trusted.row.created_at)
    });
    if !may_be_read {
        return Err(lost());
    }
    let mut facts = indexing::open(app, &trusted.row)?.ok_or_else(lost)?;
    add_row(&mut facts, &trusted, parameters()?.find(&sought.kind, "date").is_none());
    Ok(keys(&facts, &sought.order))
}

/// Of a part of some records, as many as may be opened together, from its beginning or its end on; one in any case.
pub fn fitting(
    lengths: impl Iterator<Item = u64>,
    (start, end): (usize, usize),
    from_end: bool,
) -> (usize, usize) {
    let mut lengths: Vec<u64> = lengths.skip(start).take(end.saturating_sub(start)).collect();
    if from_end {
        lengths.reverse();
    }
    let mut sum = 0_u64;
    let within = lengths.iter().take_while(|length| {
        sum = sum.saturating_add(**length);
        sum <= MAX_BYTES
    });
    let fits = within.count().max(1).min(lengths.len());
    if from_end { (end - fits, end) } else { (start, start + fits) }
}

/// A page of what is to be kept, as it was written, oldest first, without a look at what records hold. A page of no rows has no
/// links.
pub async fn plain_page(
    app: &App,
    range: &Range,
    filter: Filter,
    (place, limit): (Option<&Place>, u32),
    keep: impl Fn(&TrustedRow) -> bool,
) -> Result<Page, Error> {
    if limit == 0 {
        return Ok(Page::default());
    }
    let back = place.is_some_and(|place| place.back);
    let (mut rows, limit) = (Vec::new(), limit as usize);
    let at_once =
        filter.limit.clamp(1, AT_ONCE).max(u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1));
    let after = place.map(|place| (place.at, place.id.as_str().to_owned()));
    let mut filter = Filter { after, backwards: back, limit: at_once, ..filter };
    let mut looked_at = 0;
    // One more tells whether there is more.
    while rows.len() <= limit {
        let stored = app.store.list(&range.token, &range.sets, &filter).await?;
        let ended = stored.len() < at_once as usize;
        looked_at += stored.len();
        if looked_at > MOST_CANDIDATES {
            return Err(Error::TooCostly("too many records would be looked at: name fewer types or days"));
        }
        for row in stored {
            let trusted = range.open(app, row)?;
            filter.after = Some((trusted.row.created_at, trusted.row.id.as_str().to_owned()));
            if range.readable.covers(trusted.labels(), trusted.row.created_at) && keep(&trusted) {
                rows.push(trusted);
            }
        }
        if ended {
            break;
        }
    }
    let fits = fitting(rows.iter().map(|row| row.row.length), (0, rows.len().min(limit)), false).1;
    let more = rows.len() > fits;
    rows.truncate(fits);
    if back {
        rows.reverse();
    }
    let next = rows.last().filter(|_| more || back).map(|row| Place::beside(row, false));
    let previous = rows
        .first()
        .filter(|_| if back { more } else { place.is_some() })
        .map(|row| Place::beside(row, true));
    Ok(Page { total: 0, rows, next, previous })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        let of = |lengths: &[u64], back: bool| fitting(lengths.iter().copied(), (0, lengths.len()), back);
        assert_eq!(of(&[10, 20], false), (0, 2));
        assert_eq!(of(&[MAX_BYTES - 10, 10, 1], false), (0, 2));
        assert_eq!(of(&[MAX_BYTES - 10, 10, 1], true), (1, 3));
        assert_eq!(of(&[MAX_BYTES + 1, 1], false), (0, 1));
        assert_eq!(of(&[1, MAX_BYTES + 1], true), (1, 2));
        assert_eq!(of(&[], false), (0, 0), "of none, none");
        assert_eq!(fitting([1, 2, 3, 4].into_iter(), (1, 3), false), (1, 3));
    }
}
