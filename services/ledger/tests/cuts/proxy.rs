//! The wires between members: one small TCP proxy per ordered pair, which a test can cut and join again.

use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Everything passes.
    Open,
    /// Nothing passes and nobody is told: connections hang.
    Abstaining,
    /// Connections are closed.
    Refused,
}

/// The network of `count` members.
pub struct Wires {
    count: usize,
    /// Port to which member `from` speaks when it means `to`.
    ports: Vec<u16>,
    switches: Vec<watch::Sender<Wire>>,
}

impl Wires {
    /// Wires to the members' own ports, all open.
    pub async fn new(targets: &[u16]) -> Self {
        let count = targets.len();
        let (mut ports, mut switches) = (Vec::new(), Vec::new());
        for _from in 0..count {
            for target in targets {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                ports.push(listener.local_addr().unwrap().port());
                let (switch, state) = watch::channel(Wire::Open);
                switches.push(switch);
                hbc_service::spawn("test", listen(listener, *target, state));
            }
        }
        Self { count, ports, switches }
    }

    pub fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from * self.count + to]
    }

    /// Cuts every wire between the two sides; the others are open.
    pub fn cut(&self, one_side: &[usize], how: Wire) {
        for from in 0..self.count {
            for to in 0..self.count {
                let crosses = one_side.contains(&from) != one_side.contains(&to);
                self.switches[from * self.count + to].send_replace(if crosses { how } else { Wire::Open });
            }
        }
    }

    /// Joins everything again.
    pub fn heal(&self) {
        self.cut(&[], Wire::Open);
    }
}

async fn listen(listener: TcpListener, target: u16, state: watch::Receiver<Wire>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        hbc_service::spawn("test", carry(near, target, state.clone()));
    }
}

/// One connection. What was open when the cut came never speaks again, as after a lost network.
async fn carry(mut near: TcpStream, target: u16, mut state: watch::Receiver<Wire>) {
    let now = *state.borrow_and_update();
    let held = match now {
        Wire::Refused => return,
        Wire::Abstaining => None,
        Wire::Open => {
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            tokio::select! {
                _ended = copy_bidirectional(&mut near, &mut far) => return,
                _cut = state.wait_for(|wire| *wire != Wire::Open) => Some(far),
            }
        }
    };
    if *state.borrow() == Wire::Abstaining {
        let joined = state.wait_for(|wire| *wire != Wire::Abstaining);
        let _long_enough = tokio::time::timeout(Duration::from_secs(300), joined).await;
    }
    drop((near, held));
}
