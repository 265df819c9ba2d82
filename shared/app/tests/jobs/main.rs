//! The runner of durable jobs on every engine at hand: once over all processes, again after a crash, with growing
//! pauses, and at last visible as failed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "test code")]

mod sample;
mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hbc_app::jobs::{JobError, Jobs, Queue, Runner, cancel, enqueue};
use hbc_db::jobs::listing::{self, Listed, State};
use hbc_db::testing::{TestDatabase, databases};
use hbc_db::{Db, DbError, DbOptions};
use hbc_service::Tasks;
use hbc_types::ids::IntentId;
use hbc_types::{Clock, Random, Timestamp};
use tokio::sync::{Semaphore, mpsc};

use sample::Look;
use sweep::{Audit, Sweep};

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
/// The pause after the sample's first try.
pub const PAUSE: Duration = Duration::from_secs(4);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(15);

/// What the sample's runs do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Well,
    Faulty,
    Later,
    Panics,
}

/// The state of a sample service.
#[derive(Clone)]
pub struct App {
    mood: Arc<std::sync::Mutex<Mood>>,
    seen: mpsc::UnboundedSender<String>,
    /// Runs at this moment, and the most there ever were.
    at_once: Arc<(AtomicU32, AtomicU32)>,
    /// A run ends with a permit of this.
    gate: Arc<Semaphore>,
}

impl App {
    async fn work(&self, about: &str) -> Result<(), JobError> {
        let now = self.at_once.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once.1.fetch_max(now, Ordering::SeqCst);
        self.seen.send(about.to_owned()).unwrap();
        let mood = *self.mood.lock().unwrap();
        self.gate.acquire().await.unwrap().forget();
        self.at_once.0.fetch_sub(1, Ordering::SeqCst);
        match mood {
            Mood::Well => Ok(()),
            Mood::Faulty => Err(JobError::fault("refused")),
            Mood::Later => Err(JobError::later("unreachable")),
            Mood::Panics => panic!("deliberate"),
        }
    }
}

/// A sample service in one process or more.
struct World {
    database: TestDatabase,
    clock: Clock,
    app: App,
    seen: mpsc::UnboundedReceiver<String>,
    tasks: Tasks,
}

/// The list of the sample service: a line for a job.
fn jobs() -> Jobs<App> {
    Jobs::new().job::<Look>()
}

impl World {
    /// One for every engine; runs go through as long as there are `permits`.
    async fn all(permits: usize) -> Vec<Self> {
        let world = |database| {
            let (sender, seen) = mpsc::unbounded_channel();
            let app = App {
                mood: Arc::new(std::sync::Mutex::new(Mood::Well)),
                seen: sender,
                at_once: Arc::default(),
                gate: Arc::new(Semaphore::new(permits)),
            };
            Self { database, clock: Clock::fixed(NOW), app, seen, tasks: Tasks::new() }
        };
        databases(&[]).await.into_iter().map(world).collect()
    }

    fn db(&self) -> &Db {
        &self.database.db
    }

    /// A process begins to work: with a connection of its own, as another machine would.
    async fn process(&self, jobs: Jobs<App>) -> Queue {
        let db = Db::connect(&self.database.url, DbOptions::default()).await.unwrap();
        let queue = Queue::new(db, self.clock.clone());
        let runner = Runner::new(queue.clone(), self.app.clone(), jobs, Random::system()).unwrap();
        self.tasks.spawn_supervised("jobs", move || runner.clone().run());
        queue
    }

    async fn owe(&self, db: &Db, key: &IntentId) {
        let (key, now) = (key.clone(), self.clock.now());
        db.write(move |tx| Box::pin(async move { enqueue::<Look>(tx, &key, now).await })).await.unwrap();
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.unwrap().unwrap()
    }

    fn mood(&self, mood: Mood) {
        *self.app.mood.lock().unwrap() = mood;
    }

    async fn listed(&self) -> Vec<Listed> {
        listing::list(self.db().reads(), false, 0, 100).await.unwrap()
    }

    /// Waits until the one job stands so.
    async fn until(&self, what: impl Fn(&[Listed]) -> bool) -> Vec<Listed> {
        let look = async {
            loop {
                let listed = self.listed().await;
                if what(&listed) {
                    return listed;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }

    async fn end(self) {
        self.tasks.stop().await;
        self.db().close().await;
    }
}

fn key(n: u8) -> IntentId {
    IntentId::parse(&format!("int-{}", hex::encode([n; 16]))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_each_job_once() {
    for mut world in World::all(10_000).await {
        world.process(jobs()).await;
        world.process(jobs()).await;
        for n in 0..60 {
            world.owe(world.db(), &key(n)).await;
        }
        let mut done = BTreeSet::new();
        for _ in 0..60 {
            assert!(done.insert(world.next().await), "a job ran twice");
        }
        world.until(<[Listed]>::is_empty).await;
        assert!(world.seen.try_recv().is_err());
        assert_eq!(done, (0..60).map(|n| key(n).to_string()).collect());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_process_died_runs_again_when_its_lease_is_over() {
    for mut world in World::all(100).await {
        world.owe(world.db(), &key(1)).await;
        let due = hbc_db::jobs::due(world.db().reads(), NOW, 1).await.unwrap()[0];
        let claimed = world.db().write(move |tx| {
            Box::pin(async move { hbc_db::jobs::claim(tx, due, "dead:1", NOW.plus(LEASE), NOW).await })
        });
        let dead: Option<hbc_db::jobs::Claim> = Result::<_, DbError>::unwrap(claimed.await);
        let queue = world.process(jobs()).await;
        assert!(!queue.settled(key(1).as_str(), Duration::from_millis(100)).await.unwrap());
        assert!(world.seen.try_recv().is_err(), "the dead process still has its lease");
        world.clock.advance(LEASE);
        assert_eq!(world.next().await, key(1).to_string());
        assert!(queue.settled(key(1).as_str(), PATIENCE).await.unwrap());
        let late = dead.unwrap();
        let finished: Result<_, DbError> = world
            .db()
            .write(move |tx| Box::pin(async move { hbc_db::jobs::finish(tx, &late, NOW).await }))
            .await;
        assert_eq!(finished.unwrap(), hbc_db::jobs::Finished::Lost);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_grow_until_it_has_failed_for_good_and_an_operator_begins_it_anew() {
    for mut world in World::all(100).await {
        world.mood(Mood::Faulty);
        world.process(jobs()).await;
        world.owe(world.db(), &key(1)).await;
        world.next().await;
        let mut tried = NOW;
        for (attempt, full) in [(1_u32, PAUSE), (2, PAUSE * 2)] {
            let listed =
                world.until(|jobs| jobs[0].state == State::Retrying && jobs[0].attempts == attempt).await;
            let pause = listed[0].due_at.since(tried);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} after try {attempt}");
            assert_eq!((listed[0].faults, listed[0].error.as_deref()), (attempt, Some("refused")));
            world.clock.advance(listed[0].due_at.since(world.clock.now()));
            tried = world.clock.now();
            world.next().await;
        }
        let listed = world.until(|jobs| jobs[0].state == State::Failed).await;
        assert_eq!((listed[0].attempts, listed[0].faults), (3, 3));
        world.clock.advance(Duration::from_secs(86_400));
        world.mood(Mood::Well);
        let (seq, now) = (listed[0].seq, world.clock.now());
        assert_eq!(hbc_db::jobs::due(world.db().reads(), now, 9).await.unwrap(), [] as [i64; 0]);
        let retried: Result<bool, DbError> =
            world.db().write(move |tx| Box::pin(async move { listing::retry(tx, seq, now).await })).await;
        assert!(retried.unwrap());
        world.next().await;
        world.until(<[Listed]>::is_empty).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_wait_for_others_never_fails_for_good_and_is_hurried_by_who_waits_for_it() {
    for mut world in World::all(100).await {
        world.mood(Mood::Later);
        let queue = world.process(jobs()).await;
        world.owe(world.db(), &key(1)).await;
        world.next().await;
        for attempt in 1..=5 {
            let listed =
                world.until(|jobs| jobs[0].state == State::Retrying && jobs[0].attempts == attempt).await;
            assert_eq!((listed[0].faults, listed[0].error.as_deref()), (0, Some("unreachable")));
            assert!(!queue.is_settled(key(1).as_str()).await.unwrap());
            // The clock stands still: only somebody who waits brings the next try.
            assert!(!queue.settled(key(1).as_str(), PATIENCE).await.unwrap());
            world.next().await;
        }
        world.until(|jobs| jobs[0].state == State::Retrying && jobs[0].attempts == 6).await;
        world.mood(Mood::Well);
        assert!(queue.settled(key(1).as_str(), PATIENCE).await.unwrap());
        assert!(queue.is_settled(key(1).as_str()).await.unwrap());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_or_is_unknown_is_a_fault_and_the_others_go_on() {
    for mut world in World::all(100).await {
        world.mood(Mood::Panics);
        world.process(jobs()).await;
        world.owe(world.db(), &key(1)).await;
        world.next().await;
        let listed = world.until(|jobs| jobs[0].state == State::Retrying).await;
        assert_eq!((listed[0].faults, listed[0].error.as_deref()), (1, Some("panicked")));
        world.mood(Mood::Well);
        let strange = hbc_db::jobs::NewJob { kind: "strange", key: "k".to_owned(), subject: "s".to_owned() };
        let owed: Result<(), DbError> = world
            .db()
            .write(move |tx| Box::pin(async move { hbc_db::jobs::enqueue(tx, &strange, NOW).await }))
            .await;
        owed.unwrap();
        world.owe(world.db(), &key(2)).await;
        assert_eq!(world.next().await, key(2).to_string());
        let listed = world.until(|jobs| jobs.len() == 2 && jobs[1].error.is_some()).await;
        assert_eq!(listed[1].error.as_deref(), Some("unknown_kind"));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_periodic_job_runs_once_a_period_over_two_processes() {
    for mut world in World::all(0).await {
        world.process(Jobs::new().periodic::<Sweep>()).await;
        world.process(Jobs::new().periodic::<Sweep>()).await;
        for round in 0..3_u32 {
            assert_eq!(world.next().await, "sweep");
            assert_eq!(world.app.at_once.1.load(Ordering::SeqCst), 1);
            // It takes some minutes, and drifts by none of them. A lease of that time is renewed or given to another;
            // the clock moves only once the run is over.
            world.app.gate.add_permits(1);
            let next = NOW.plus(Duration::from_secs(3600) * (round + 1));
            let listed = world.until(|jobs| jobs[0].state == State::Waiting && jobs[0].due_at == next).await;
            assert_eq!(listed.len(), 1);
            assert!(world.seen.try_recv().is_err(), "once a period");
            world.clock.advance(next.plus(Duration::from_secs(420)).since(world.clock.now()));
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_start_runs_when_a_process_starts_however_long_its_period_is() {
    for mut world in World::all(100).await {
        for start in 0..2 {
            world.process(Jobs::new().periodic::<Audit>().periodic::<Sweep>()).await;
            let mut seen = vec![world.next().await];
            if start == 0 {
                seen.push(world.next().await);
                seen.sort();
                assert_eq!(seen, ["audit", "sweep"]);
                world
                    .until(|jobs| jobs.iter().all(|job| job.state == State::Waiting && job.due_at > NOW))
                    .await;
            } else {
                assert_eq!(seen, ["audit"], "the sweep has its own time");
            }
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_gives_back_what_it_runs() {
    for mut world in World::all(0).await {
        let db = Db::connect(&world.database.url, DbOptions::default()).await.unwrap();
        let queue = Queue::new(db, world.clock.clone());
        let runner = Runner::new(queue, world.app.clone(), jobs(), Random::system()).unwrap();
        let (first, looping) = (Tasks::new(), runner.clone());
        first.spawn_supervised("jobs", move || looping.clone().run());
        world.owe(world.db(), &key(1)).await;
        world.next().await;
        first.stop().await;
        runner.release().await.unwrap();
        assert_eq!(world.listed().await[0].state, State::Waiting);
        world.app.gate.add_permits(1);
        world.process(jobs()).await;
        world.next().await;
        world.until(<[Listed]>::is_empty).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_necessary_any_more_is_taken_back() {
    for mut world in World::all(100).await {
        world.owe(world.db(), &key(1)).await;
        world.owe(world.db(), &key(2)).await;
        let taken_back: Result<(), DbError> =
            world.db().write(|tx| Box::pin(async move { cancel::<Look>(tx, &key(1)).await })).await;
        taken_back.unwrap();
        world.process(jobs()).await;
        assert_eq!(world.next().await, key(2).to_string());
        world.until(<[Listed]>::is_empty).await;
        assert!(world.seen.try_recv().is_err());
        world.end().await;
    }
}

#[tokio::test]
async fn two_jobs_of_one_name_are_refused() {
    for world in World::all(0).await {
        let queue = Queue::new(world.db().clone(), world.clock.clone());
        let twice = jobs().job::<Look>();
        assert_eq!(twice.kinds().collect::<Vec<_>>(), ["look"]);
        assert!(Runner::new(queue, world.app.clone(), twice, Random::system()).is_err());
    }
}
