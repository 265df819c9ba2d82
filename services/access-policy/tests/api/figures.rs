//! Figures, by hand: `cargo test --release -p hbc-access-policy --test api figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use hbc_types::account::AgencyType;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;

use crate::world::{labels, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; the figures mean something in a release build on a quiet machine"]
async fn unwraps_by_eight_clients() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    w.grant(&patient, &doctor, w.scope()).await;
    for clients in [1, 8] {
        let until = Instant::now() + Duration::from_secs(4);
        let client = async || {
            let mut times = Vec::new();
            while Instant::now() < until {
                let began = Instant::now();
                assert_eq!(w.try_read(&doctor.user, &written, Purpose::Treatment).await.status, 200);
                times.push(began.elapsed());
            }
            times
        };
        let all = futures_util::future::join_all((0..clients).map(|_| client())).await;
        let mut times: Vec<Duration> = all.into_iter().flatten().collect();
        times.sort_unstable();
        let rate = times.len() / 4;
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("unwrap, durable receipt, {clients} clients: {rate}/s, p50 {p50:?}, p99 {p99:?}");
    }
    let request = w.data_keys_request(&patient.user, &patient.id, &vec![labels(Category::Laboratory); 500]);
    let began = Instant::now();
    assert_eq!(w.storage("/internal/v1/keys/data-keys", Some(&patient.user), &request).await.status, 200);
    println!("500 data keys: {:?}", began.elapsed());
}

/// A million numbers that failed uploads took, before and after a record that is read: in one piece, as the service keeps
/// them, and as no service writes them unless a record was kept between every two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; the figures mean something in a release build on a quiet machine"]
async fn reads_beside_void_numbers() {
    const IN_ONE_PIECE: &str = "INSERT INTO number_ranges
        (patient, sensitivity, category, first_n, last_n, intent, state)
        SELECT patient, sensitivity, category, n_max + 1, n_max + 1000000, 'failed', 'void' FROM number_sets";
    const ONE_BY_ONE: &str = "WITH RECURSIVE i(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM i WHERE k < 10000)
        INSERT INTO number_ranges (patient, sensitivity, category, first_n, last_n, intent, state)
        SELECT patient, sensitivity, category, n_max + 2 * k, n_max + 2 * k, 'failed', 'void'
        FROM number_sets CROSS JOIN i";
    const COUNTED: &str = "UPDATE number_sets SET n_max =
        (SELECT max(r.last_n) FROM number_ranges AS r WHERE r.patient = number_sets.patient)";
    let cases: [(&str, &[&str]); 4] = [
        ("no void number", &[]),
        ("10^6 in one piece", &[IN_ONE_PIECE, COUNTED]),
        ("10^5 one by one", &[ONE_BY_ONE, COUNTED].repeat(10)),
        ("10^6 one by one", &[ONE_BY_ONE, COUNTED].repeat(100)),
    ];
    for (name, statements) in cases {
        let w = world().await;
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        for statement in statements {
            w.by_hand(statement).await;
        }
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            assert_eq!(w.read(&patient.user, &written).await.keys.len(), 1);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("{name}: p50 {:?}, p99 {:?}", times[100], times[198]);
    }
}

#[test]
#[ignore = "it measures; the figures mean something in a release build on a quiet machine"]
fn one_decision() {
    use hbc_access_policy::testing::{PolicyEngine, Principal, Question, SessionState};
    use hbc_types::Timestamp;
    use hbc_types::account::Standing;
    use hbc_types::ids::{AccountId, AgencyId, PatientId};
    use hbc_types::purpose::Action;

    let random = hbc_types::Random::seeded(1);
    let engine = PolicyEngine::load().unwrap();
    let patient = PatientId::random(&random);
    let principal = Principal {
        account: AccountId::Agency(AgencyId::random(&random)),
        standing: Standing::Active,
        session: SessionState::Open,
        agency_type: Some(AgencyType::Doctor),
        organisation: None,
        organisation_type: None,
        bound: None,
        device_key: None,
    };
    let question = Question {
        principal: &principal,
        action: Action::Read,
        patient: &patient,
        labels: labels(Category::Laboratory),
        purpose: Purpose::Treatment,
        now: Timestamp::from_ms(1),
        grant: None,
    };
    let began = Instant::now();
    let rounds = 2_000;
    for _ in 0..rounds {
        assert!(!engine.rule(&question).allowed);
    }
    println!("one decision without a grant: {:?}", began.elapsed() / rounds);
}
