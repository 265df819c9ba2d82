//! The consensus of a node that starts, whose store was healed, or that lost its log: it is replayed from the log,
//! which has every text that was signed, so that a node that comes back contradicts nothing. That a log was lost is
//! noted durably before anything of it is changed: killed in between, the node finds the same again.

use std::io;

use hbc_chain::checkpoint::Certificate as Note;
use hbc_consensus::wal::{Record, Recovered, Tail};

use crate::domain::double_sign_protection::DoubleSignProtection;
use crate::files::DataFolder;
use crate::wal::Wal;

/// Who there is to contradict, and from where on.
#[derive(Clone, Copy, Debug)]
pub struct KnownMembers {
    /// Height of the last block that the log must know of, if it is known.
    pub tip: Option<u64>,
    /// Members of the next height.
    pub members: usize,
    /// Nodes that the configuration names beside this one.
    pub peers: usize,
}

/// Whether the node must abstain: it is noted that it lost its log, or it just did, which is noted here.
///
/// # Errors
/// When the note cannot be written.
pub fn double_sign_protection(
    data: &DataFolder,
    found: &Recovered,
    known_members: KnownMembers,
) -> io::Result<Option<DoubleSignProtection>> {
    // One that has no peers has nobody to contradict it. One that founded the chain alone may have other members by now
    // of which only its peers know.
    if known_members.members == 1 && known_members.peers == 0 {
        return Ok(None);
    }
    if found.is_lost(known_members.tip)
        && !is_birth(data, found, known_members.tip)?
        && !data.is_abstaining()?
    {
        tracing::warn!(
            "The write-ahead log is missing, damaged or an old one; nothing is signed until that cannot matter"
        );
        data.abstain()?;
    }
    Ok(data.is_abstaining()?.then(DoubleSignProtection::default))
}

/// A folder that was never run has no log because there was none.
fn is_birth(data: &DataFolder, found: &Recovered, tip: Option<u64>) -> io::Result<bool> {
    Ok(found.tail == Tail::New && tip == Some(0) && data.checkpoint()?.is_none() && data.is_unborn()?)
}

/// Opens the log of the height after `tip`, and answers what it holds of it. One that is missing or of an earlier
/// height is begun anew.
///
/// # Errors
/// When the log cannot be written.
pub fn restore(data: &DataFolder, found: Recovered, tip: u64) -> io::Result<(Wal, Vec<Record>)> {
    let next = tip.saturating_add(1);
    let taken = if found.floor == next {
        (Wal::resume(&data.wal(), &found)?, found.records)
    } else {
        (Wal::begin(&data.wal(), next)?, Vec::new())
    };
    data.note_born()?;
    Ok(taken)
}

/// After healing of a node that is stopped, whose tip was `before` if that is known: what was signed at heights that
/// the store has now is of no use. A log that was lost stays so, for the start to see.
///
/// # Errors
/// When the log cannot be written.
pub fn advance_log(data: &DataFolder, found: &Recovered, before: Option<u64>, tip: u64) -> io::Result<()> {
    if !found.is_lost(before) && found.floor < tip {
        Wal::begin(&data.wal(), tip.saturating_add(1))?;
    }
    Ok(())
}

/// The tip as the file beside the database has it: what the log must fit where the database cannot say.
///
/// # Errors
/// When the file cannot be read.
pub fn tip_beside(data: &DataFolder) -> io::Result<Option<u64>> {
    let note = data.checkpoint()?.and_then(|note| Note::parse(&note).ok());
    Ok(note.map(|note| note.checkpoint.height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::look;

    /// A folder with the log of the height after `tip`, in which one thing was signed.
    fn folder(tip: u64) -> (tempfile::TempDir, DataFolder) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let mut wal = Wal::begin(&data.wal(), tip + 1).unwrap();
        wal.append(&Record { height: tip + 1, payload: b"signed".to_vec() }).unwrap();
        (folder, data)
    }

    fn of_four(tip: u64) -> KnownMembers {
        KnownMembers { tip: Some(tip), members: 4, peers: 3 }
    }

    fn start(data: &DataFolder, known_members: KnownMembers) -> (bool, Vec<Record>) {
        let found = look(&data.wal()).unwrap();
        let abstaining = double_sign_protection(data, &found, known_members).unwrap().is_some();
        (abstaining, restore(data, found, known_members.tip.unwrap()).unwrap().1)
    }

    #[test]
    fn a_log_that_is_whole_is_restored_with_what_was_signed() {
        let (_kept, data) = folder(6);
        let (abstaining, records) = start(&data, of_four(6));
        assert!(!abstaining);
        assert_eq!(records.len(), 1);
        // The block was stored, and the process was killed before the next log was begun.
        let (abstaining, records) = start(&data, of_four(7));
        assert!(!abstaining && records.is_empty());
        assert_eq!(look(&data.wal()).unwrap().floor, 8);
    }

    #[test]
    fn what_is_lost_is_noted_before_the_log_is_touched() {
        type Harm = fn(&DataFolder);
        let harms: [(&str, Harm); 4] = [
            ("gone", |data| std::fs::remove_file(data.wal()).unwrap()),
            ("emptied", |data| std::fs::write(data.wal(), b"").unwrap()),
            ("changed", |data| {
                let mut bytes = std::fs::read(data.wal()).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(data.wal(), bytes).unwrap();
            }),
            ("an older copy", |data| drop(Wal::begin(&data.wal(), 5).unwrap())),
        ];
        for (what, harm) in harms {
            let (_kept, data) = folder(6);
            harm(&data);
            let before = std::fs::read(data.wal()).ok();
            let found = look(&data.wal()).unwrap();
            // Killed here, it finds the same again.
            assert!(double_sign_protection(&data, &found, of_four(6)).unwrap().is_some(), "{what}");
            assert_eq!(std::fs::read(data.wal()).ok(), before, "{what}");
            assert!(data.is_abstaining().unwrap(), "{what}");
            assert!(start(&data, of_four(6)).0);
            // The log is whole now; the note is what counts.
            assert!(!look(&data.wal()).unwrap().is_lost(Some(6)), "{what}");
            assert!(start(&data, of_four(6)).0, "{what}");
        }
    }

    #[test]
    fn only_a_folder_without_blocks_is_born() {
        for (tip, checkpoint, abstaining) in [(0, false, false), (0, true, true), (6, false, true)] {
            let folder = tempfile::tempdir().unwrap();
            let data = DataFolder::open(folder.path()).unwrap();
            data.note_unborn().unwrap();
            if checkpoint {
                data.write_checkpoint("a note").unwrap();
            }
            assert_eq!(start(&data, of_four(tip)).0, abstaining, "at {tip}");
            assert!(!data.is_unborn().unwrap());
        }
    }

    #[test]
    fn a_founder_with_peers_does_not_take_itself_for_alone_once_its_log_is_gone() {
        for (peers, abstaining) in [(0, false), (3, true)] {
            let folder = tempfile::tempdir().unwrap();
            let data = DataFolder::open(folder.path()).unwrap();
            assert_eq!(start(&data, KnownMembers { tip: Some(0), members: 1, peers }).0, abstaining);
        }
    }

    #[test]
    fn a_heal_that_brought_blocks_moves_a_good_log_on_and_hides_no_lost_one() {
        let (_kept, data) = folder(6);
        advance_log(&data, &look(&data.wal()).unwrap(), Some(6), 9).unwrap();
        assert!(!start(&data, of_four(9)).0);
        let (_kept, data) = folder(6);
        advance_log(&data, &look(&data.wal()).unwrap(), Some(6), 6).unwrap();
        assert_eq!(
            start(&data, of_four(6)),
            (false, vec![Record { height: 7, payload: b"signed".to_vec() }])
        );
        // The checkpoint knew of more than this log.
        let (_kept, data) = folder(4);
        advance_log(&data, &look(&data.wal()).unwrap(), Some(6), 9).unwrap();
        assert!(start(&data, of_four(9)).0);
    }
}
