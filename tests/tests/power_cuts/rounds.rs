//! The running stack loses power, again and again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hbc_tests::{TestApp, wait};
use hbc_types::Random;

use crate::disk::{Disk, Lost, SYNCED_WITHIN};
use crate::load::{Accounts, Consents, Power, Promises, Reads, Uploads};
use crate::luck::{Luck, below};
use crate::powered::{Powered, nodes_are_well, raised_alarms};

/// Cuts under load. Every other one leaves nothing that was not synced; the others have luck, and the power fails a second
/// time while everything comes up again.
const ROUNDS: u64 = 4;
/// So long the load goes on at most once everybody is at work.
const LOAD_US: u64 = 400_000;
/// So long the power stays at most before it fails for the second time.
const COMING_UP_US: u64 = 1_500_000;

/// All clients.
struct Clients {
    uploads: [Uploads; 2],
    reads: Reads,
    consents: Consents,
    accounts: Accounts,
    promises: Promises,
}

impl Clients {
    async fn begin(app: &TestApp) -> Result<Self> {
        let doctor = app.doctor().await?;
        let (first, second, reads, consents) = tokio::try_join!(
            Uploads::begin(app),
            Uploads::begin(app),
            Reads::begin(app, doctor.clone()),
            Consents::begin(app, doctor)
        )?;
        let (accounts, promises) = (Accounts::default(), Promises::default());
        Ok(Self { uploads: [first, second], reads, consents, accounts, promises })
    }

    /// All at work; once each of them got something done, the power is cut at whatever moment.
    async fn until_the_power_fails(&mut self, app: &TestApp, random: &Random) -> Result<()> {
        let power = Power::default();
        let done: [AtomicU32; 6] = Default::default();
        let [first, second] = &mut self.uploads;
        let cut = async {
            wait::until("every client got something done", || async {
                let all = done.iter().all(|done| done.load(Ordering::SeqCst) > 0);
                Ok(all.then_some(()))
            })
            .await?;
            tokio::time::sleep(Duration::from_micros(below(random, LOAD_US))).await;
            power.fail();
            app.stack().cut_power()
        };
        tokio::try_join!(
            cut,
            power.work(&done[0], async || first.once(app).await),
            power.work(&done[1], async || second.once(app).await),
            power.work(&done[2], async || self.reads.once(app).await),
            power.work(&done[3], async || self.consents.once(app).await),
            power.work(&done[4], async || self.accounts.once(app).await),
            power.work(&done[5], async || self.promises.once(app).await),
        )?;
        Ok(())
    }

    /// Everything acknowledged is there.
    async fn afterwards(&mut self, app: &TestApp) -> Result<()> {
        let [first, second] = &mut self.uploads;
        tokio::try_join!(
            first.afterwards(app),
            second.afterwards(app),
            self.reads.afterwards(app),
            self.consents.afterwards(app),
            self.accounts.afterwards(app),
            nodes_are_well(app),
        )?;
        Ok(())
    }

    /// Each of them gets something done, and the power stays.
    async fn once(&mut self, app: &TestApp) -> Result<()> {
        let [first, _] = &mut self.uploads;
        let (uploads, consents) = (first.once(app), self.consents.once(app));
        tokio::try_join!(uploads, self.reads.once(app), consents, self.accounts.once(app))?;
        Ok(())
    }

    /// Everything acknowledged is on the ledger, once. Answers how much it was.
    async fn in_the_end(&mut self, app: &TestApp) -> Result<String> {
        let [first, second] = &self.uploads;
        let (first, second, reads, revocations, accounts, promises) = tokio::try_join!(
            first.in_the_end(app),
            second.in_the_end(app),
            self.reads.in_the_end(app),
            self.consents.in_the_end(app),
            self.accounts.in_the_end(app),
            self.promises.in_the_end(app),
        )?;
        Ok(format!(
            "{} records, {reads} reads, {revocations} revocations, {accounts} accounts, {promises} promises",
            first + second
        ))
    }
}

/// A cut under load, and all that must be there afterwards.
async fn round(
    app: &mut TestApp,
    disk: &Disk,
    clients: &mut Clients,
    luck: &Luck,
    random: &Random,
) -> Result<Lost> {
    clients.until_the_power_fails(app, random).await?;
    let lost = disk.forget(luck)?;
    ensure!(lost.unsynced.is_empty(), "this was not synced: {:?}", lost.unsynced);
    if matches!(luck, Luck::Some(_)) {
        app.stack_mut()?.begin()?;
        tokio::time::sleep(Duration::from_micros(below(random, COMING_UP_US))).await;
        app.stack().cut_power()?;
        disk.forget(luck)?;
    }
    app.stack_mut()?.come_up().await?;
    clients.afterwards(app).await?;
    Ok(lost)
}

/// What is in no sync although nobody has written to a journal of rights for a while: under load its last lines are always
/// new. The power is cut for it.
async fn unsynced_at_rest(app: &TestApp, disk: &Disk) -> Result<Vec<PathBuf>> {
    wait::until("nobody has written to a journal of rights for a while", || async {
        let written = |name| std::fs::metadata(app.dir().join("journals").join(name))?.modified();
        let last = written("auth.rights")?.max(written("access-policy.rights")?);
        Ok(last.elapsed().is_ok_and(|since| since > SYNCED_WITHIN).then_some(()))
    })
    .await?;
    app.stack().cut_power()?;
    Ok(disk.forget(&Luck::None)?.unsynced)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_every_power_cut() -> Result<()> {
    let Some(Powered { mut stack, disk }) = Powered::found()? else { return Ok(()) };
    let (began, random) = (Instant::now(), Random::system());
    stack.come_up().await?;
    let mut app = TestApp::of(stack)?;
    let mut clients = Clients::begin(&app).await?;
    let mut files = 0;
    for number in 0..ROUNDS {
        let luck = if number % 2 == 0 { Luck::None } else { Luck::Some(random.clone()) };
        let lost = round(&mut app, &disk, &mut clients, &luck, &random).await;
        let lost = lost.with_context(|| format!("round {number}, {luck:?}"))?;
        println!("round {number}, {luck:?}: {lost:?}, after {:?}", began.elapsed());
        files += lost.files;
    }
    assert!(files > 0, "no cut took anything away");
    let all = clients.in_the_end(&app).await?;
    assert_eq!(raised_alarms(&app), Vec::<String>::new());
    clients.once(&app).await?;
    assert_eq!(unsynced_at_rest(&app, &disk).await?, Vec::<PathBuf>::new(), "this is not synced");
    println!("{ROUNDS} cuts under load: {all}; {files} files were others, {:?}", began.elapsed());
    Ok(())
}
