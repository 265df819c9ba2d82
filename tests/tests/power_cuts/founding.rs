//! A deployment that was just made, and one that starts for the first time: folders, keys, databases and journals are all
//! new then, and a name that nobody synced is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hbc_testkit::stack;
use hbc_tests::TestApp;
use hbc_types::Random;

use crate::disk::Disk;
use crate::luck::{Luck, below};
use crate::powered::{Powered, nodes_are_well, raised_alarms};

/// Within this time of a first start the power is cut: it takes as long on a machine that does nothing else.
const FIRST_START_US: u64 = 1_200_000;

/// Every file below a folder, with its bytes, and every folder.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner)? {
            let path = entry?.path();
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            if path.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                folders.push(path);
            } else {
                found.insert(name, std::fs::read(path)?);
            }
        }
    }
    Ok(found)
}

/// With the power cut right after it, all that `hbc init` made is there: every key and the IPFS daemon's repository.
#[test]
fn what_init_made_is_there() -> Result<()> {
    let home = tempfile::tempdir()?;
    let place = home.path().join("place");
    std::fs::create_dir(&place)?;
    let disk = Disk::under(&place, &[])?;
    if !stack::init(&place.join("deployment"), &disk.environment())? {
        return Ok(());
    }
    let made = contents(&place)?;
    assert!(made.len() > 40 && made.contains_key("deployment/secrets/master.key"), "{:?}", made.keys());
    disk.forget(&Luck::None)?;
    let left = contents(&place)?;
    let lost = made.iter().filter(|(name, bytes)| left.get(*name) != Some(*bytes));
    let lost: Vec<_> = lost.map(|(name, _)| name).collect();
    assert!(lost.is_empty() && left.len() == made.len(), "lost after the power cut: {lost:?}");
    Ok(())
}

/// The power is cut somewhere in the first start. The second one makes it good, and leaves nothing unsynced.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_short_is_made_good() -> Result<()> {
    let random = Random::system();
    for luck in [Luck::None, Luck::Some(random.clone())] {
        let Some(mut powered) = Powered::found()? else { return Ok(()) };
        powered.stack.begin()?;
        tokio::time::sleep(Duration::from_micros(below(&random, FIRST_START_US))).await;
        powered.cut(&luck)?;
        powered.stack.come_up().await.with_context(|| format!("{luck:?}"))?;
        let Powered { stack, disk } = powered;
        let app = TestApp::of(stack)?;
        app.upload(&app.patient().await?, b"%PDF of the first day").await?;
        nodes_are_well(&app).await?;
        assert_eq!(raised_alarms(&app), Vec::<String>::new());
        app.stack().cut_power()?;
        let lost = disk.forget(&Luck::None)?;
        ensure!(lost.unsynced.is_empty(), "this was not synced: {:?}", lost.unsynced);
    }
    Ok(())
}
