//! Figures, by hand: `cargo test --release -p hbc-auth --test api figures -- --ignored --nocapture`.

use std::time::Instant;

use crate::app::each;

/// Names of each kind.
const NAMES: usize = 200;

/// How far two samples' ranks are from what chance gives, in standard deviations (Mann and Whitney, 1947). Times that are
/// equal to the nanosecond are too rare to count.
fn distance(known: &[u128], unknown: &[u128]) -> f64 {
    let mut all: Vec<(u128, bool)> = known.iter().map(|&time| (time, true)).collect();
    all.extend(unknown.iter().map(|&time| (time, false)));
    all.sort_unstable();
    let ranks: usize = all.iter().zip(1..).filter(|((_, known), _)| *known).map(|(_, rank)| rank).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let [m, n, ranks] = [known.len() as f64, unknown.len() as f64, ranks as f64];
    let u = ranks - m * (m + 1.0) / 2.0;
    (u - m * n / 2.0) / (m * n * (m + n + 1.0) / 12.0).sqrt()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; the figures mean something in a release build on a quiet machine"]
async fn times_of_known_and_unknown_names() {
    each(|app| async move {
        for n in 0..NAMES {
            app.patient(&format!("known{n}")).await;
        }
        let mut times = [Vec::new(), Vec::new()];
        for n in 0..NAMES {
            for (kind, of_kind) in ["known", "nobody"].into_iter().zip(&mut times) {
                app.wait(900);
                let began = Instant::now();
                let reply = app.try_login(&format!("{kind}{n}"), "wrong wrong wrong wrong").await;
                of_kind.push(began.elapsed().as_nanos());
                reply.refused(401, "bad_credentials");
            }
        }
        let [known, unknown] = &mut times;
        let z = distance(known, unknown);
        let median = |times: &mut Vec<u128>| {
            times.sort_unstable();
            times[times.len() / 2] / 1_000
        };
        println!(
            "{NAMES} known and {NAMES} unknown names: medians {} and {} µs, {z:.2} standard deviations apart in rank",
            median(known),
            median(unknown),
        );
        assert!(z.abs() < 3.3, "the times tell who has an account: z = {z:.2}");
    })
    .await;
}
