//! The supervisor on children that anybody has: `sh`, `sleep` and `cat`.

use super::*;

struct Up {
    folder: tempfile::TempDir,
    deployment: Deployment,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
    standings: watch::Receiver<Standings>,
}

fn shell(name: &str, script: &str, stop_order: u8) -> ProcessSpec {
    ProcessSpec {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        ready: None,
        stop_order,
    }
}

fn up(specs: Vec<ProcessSpec>) -> Up {
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment::at(folder.path()).unwrap();
    let supervisor = Supervisor::start(&deployment, specs, Clock::system(), true).unwrap();
    let standings = supervisor.watch();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = hbc_service::spawn(
        "supervisor",
        supervisor.run_until(async move {
            stopped.await.ok();
        }),
    );
    Up { folder, deployment, stop: Some(stop), task: Some(task), standings }
}

impl Up {
    async fn until(&mut self, name: &str, wanted: impl Fn(&super::board::Standing) -> bool) -> Option<u32> {
        let wait = self.standings.wait_for(|all| all.get(name).is_some_and(&wanted));
        let all = tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
        all[name].pid
    }

    async fn ready(&mut self, name: &str) -> ProcessId {
        let pid = self.until(name, |s| s.state == State::Ready).await.unwrap();
        ProcessId::of(pid).unwrap()
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.task.take().unwrap()).await.unwrap().unwrap();
        self.folder
    }
}

#[tokio::test]
async fn a_child_that_dies_is_started_again_and_the_log_says_so() {
    let mut up = up(vec![shell("cat", "cat", 0)]);
    let first = up.ready("cat").await;
    assert_eq!(ProcessId::recorded(&up.deployment.pid_file("cat")), Some(first.clone()));
    first.signal(rustix::process::Signal::KILL).unwrap();
    let again = up.until("cat", |s| s.state == State::Ready && s.failures == 1).await.unwrap();
    assert_ne!(i32::try_from(again).unwrap(), first.pid());
    let log = std::fs::read_to_string(up.deployment.log("supervisor")).unwrap();
    assert!(log.contains("cat ended (signal: 9 (SIGKILL)); starting it again in 0.2 s"), "{log}");
    up.stop().await;
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_tried_again_with_growing_pauses() {
    let mut spec = shell("ghost", "", 0);
    spec.program = "/no/such/program".into();
    let mut up = up(vec![spec]);
    up.until("ghost", |s| s.failures == 3).await;
    let log = std::fs::read_to_string(up.deployment.log("supervisor")).unwrap();
    assert!(
        log.contains("starting it again in 0.2 s") && log.contains("starting it again in 0.8 s"),
        "{log}"
    );
    up.stop().await;
}

#[tokio::test]
async fn stopping_goes_in_order_and_leaves_nothing_running() {
    let script = "cat; sleep 0.2; date +%s%N > \"$0.stopped\"";
    let folder = tempfile::tempdir().unwrap();
    let spec = |name: &str, order| {
        let mut spec = shell(name, script, order);
        spec.args.push(folder.path().join(name).to_string_lossy().into_owned());
        spec
    };
    let mut up = up(vec![spec("late", 2), spec("early", 1)]);
    let (late, early) = (up.ready("late").await, up.ready("early").await);
    let deployment = up.deployment.clone();
    let _kept = up.stop().await;
    assert!(!late.is_alive() && !early.is_alive());
    let at = |name: &str| -> u128 {
        let text = std::fs::read_to_string(folder.path().join(format!("{name}.stopped"))).unwrap();
        text.trim().parse().unwrap()
    };
    assert!(at("early") < at("late"));
    assert!(!deployment.pid_file("early").exists() && !deployment.pid_file("supervisor").exists());
}

#[tokio::test]
async fn suspension_keeps_one_child_down_until_it_is_lifted() {
    let mut up = up(vec![shell("one", "cat", 0), shell("two", "cat", 0)]);
    let (one, two) = (up.ready("one").await, up.ready("two").await);
    let deployment = up.deployment.clone();
    let asked = tokio::task::spawn_blocking(move || crate::node::stop(&deployment, "one")).await.unwrap();
    asked.unwrap();
    assert!(!one.is_alive() && two.is_alive());
    let deployment = up.deployment.clone();
    let unknown = tokio::task::spawn_blocking({
        let deployment = deployment.clone();
        move || crate::node::stop(&deployment, "three")
    });
    assert!(unknown.await.unwrap().unwrap_err().to_string().contains("there are: one, two"));
    tokio::task::spawn_blocking(move || crate::node::start(&deployment, "one", None)).await.unwrap().unwrap();
    assert!(up.ready("one").await.is_alive());
    assert_eq!(up.standings.borrow()["one"].failures, 0);
    up.stop().await;
}

#[tokio::test]
async fn a_second_supervisor_is_refused_while_the_first_holds_the_folder() {
    let mut up = up(vec![shell("cat", "cat", 0)]);
    up.ready("cat").await;
    let refused = Supervisor::start(&up.deployment, Vec::new(), Clock::system(), true);
    assert!(refused.err().unwrap().to_string().contains("already running"));
    let folder = up.stop().await;
    let deployment = Deployment::at(folder.path()).unwrap();
    assert!(Supervisor::start(&deployment, Vec::new(), Clock::system(), true).is_ok());
}

#[tokio::test]
async fn leftovers_are_ended_by_their_record_and_strangers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment::at(folder.path()).unwrap();
    std::fs::create_dir_all(deployment.run()).unwrap();
    let mut leftover = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    ProcessId::of(leftover.id()).unwrap().record(&deployment.pid_file("storage")).unwrap();
    let reused = ProcessId::of(stranger.id()).unwrap().to_string().replacen(' ', " 9", 1);
    std::fs::write(deployment.pid_file("auth"), reused).unwrap();
    let supervisor = Supervisor::start(&deployment, Vec::new(), Clock::system(), true).unwrap();
    assert!(leftover.wait().unwrap().code().is_none(), "ended by a signal");
    assert!(ProcessId::of(stranger.id()).is_some());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let log = std::fs::read_to_string(deployment.log("supervisor")).unwrap();
    assert!(log.contains("ended storage") && !log.contains("ended auth"), "{log}");
    drop(supervisor);
}

#[tokio::test]
async fn what_a_child_says_is_in_its_log_and_it_has_the_environment_it_was_given() {
    let mut up = up(vec![shell("cat", "echo \"$GREETING from $(pwd)\"; echo and >&2; cat", 0)]);
    up.ready("cat").await;
    let (deployment, folder) = (up.deployment.clone(), up.stop().await);
    let log = std::fs::read_to_string(deployment.log("cat")).unwrap();
    assert_eq!(log, format!("hello from {}\nand\n", folder.path().canonicalize().unwrap().display()));
}

#[tokio::test]
async fn a_child_is_ready_when_it_answers_and_not_when_it_only_runs() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut spec = shell("cat", "cat", 0);
    spec.ready = Some(crate::probe::Probe::service(listener.local_addr().unwrap().port()));
    let mut up = up(vec![spec]);
    // One that asked and went away, on a machine that is busy, was not answered.
    std::thread::spawn(move || {
        let mut status = "503 Not Yet";
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let Ok(length @ 1..) = stream.read(&mut head) else { continue };
            assert!(head[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            if write!(stream, "HTTP/1.1 {status}\r\n\r\n").is_ok() {
                status = "200 OK";
            }
        }
    });
    up.until("cat", |s| s.state == State::Starting).await;
    up.ready("cat").await;
    up.stop().await;
}

#[tokio::test]
async fn a_suspension_ends_with_the_supervisor_that_was_told_of_it() {
    let mut first = up(vec![shell("cat", "cat", 0)]);
    first.ready("cat").await;
    let deployment = first.deployment.clone();
    tokio::task::spawn_blocking({
        let deployment = deployment.clone();
        move || crate::node::stop(&deployment, "cat")
    })
    .await
    .unwrap()
    .unwrap();
    let _folder = first.stop().await;
    let second = Supervisor::start(&deployment, vec![shell("cat", "cat", 0)], Clock::system(), true).unwrap();
    let mut standings = second.watch();
    let run = second.run_until(async move {
        let ready = |all: &Standings| all.get("cat").is_some_and(|s| s.state == State::Ready);
        tokio::time::timeout(Duration::from_secs(20), standings.wait_for(ready)).await.unwrap().unwrap();
    });
    run.await;
    assert_eq!(Board::read(&deployment.state()).unwrap()["cat"].state, State::Stopped);
}

#[tokio::test]
async fn a_child_that_only_waits_to_be_started_again_ends_at_once() {
    let mut up = up(vec![shell("false", "exit 3", 0)]);
    // The next pause would be 3.2 s.
    up.until("false", |s| s.state == State::Waiting && s.failures == 5).await;
    let asked = std::time::Instant::now();
    up.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}
