//! A path, made: what each machine's card is, and what carries its frames. Whatever was made goes again.

use std::fs;
use std::io;
use std::path::{Path as File, PathBuf};
use std::process::Command;

use super::error::Error;
use super::file::{By, Scene};
use super::leftovers;
use super::model::Interface;
use crate::status::say;
use crate::sys::bridge;

/// A port without a machine, so that a switch of one has two.
const NOBODY: &str = "nobody";

/// The ends of a path.
pub struct Join {
    /// `--net` of each machine.
    pub cards: Vec<String>,
    /// Where a server listens, by machine.
    pub sockets: Vec<PathBuf>,
    /// The taps, where they are that.
    taps: Vec<String>,
    made: Made,
}

/// Interfaces to remove, the last first.
#[derive(Default)]
struct Made(Vec<Kind>);

enum Kind {
    Tap(String, bool),
    Bridge(String),
}

impl Join {
    pub fn make(scene: &Scene, folder: &File) -> Result<Join, Error> {
        let path = &scene.path;
        let mut join =
            Join { cards: Vec::new(), sockets: Vec::new(), taps: path.taps.clone(), made: Made::default() };
        if path.by == By::Bridge && path.taps.is_empty() {
            join.bridge(scene.machines.len(), path.queues > 1)?;
        }
        for (at, machine) in scene.machines.iter().enumerate() {
            let mut card = match path.by {
                By::Bridge => {
                    format!("tap={},vhost={}", join.taps[at], if path.vhost { "on" } else { "off" })
                }
                By::Switch | By::Command => {
                    let socket = folder.join(&machine.name);
                    let card = format!("vhost-user={}", socket.display());
                    join.sockets.push(socket);
                    card
                }
            };
            card += &format!(",queues={}", path.queues);
            if !path.net.is_empty() {
                card += &format!(",{}", path.net);
            }
            join.cards.push(card);
        }
        if path.by == By::Switch && join.sockets.len() == 1 {
            join.sockets.push(folder.join(NOBODY));
        }
        Ok(join)
    }

    fn bridge(&mut self, machines: usize, many: bool) -> Result<(), Error> {
        let fail = |what, object: &str| {
            let object = object.to_owned();
            move |error| Error::Make { what, object, error }
        };
        leftovers::remove_interfaces();
        let bridge = leftovers::bridge();
        bridge::make_bridge(&bridge).map_err(fail("make bridge", &bridge))?;
        self.made.0.push(Kind::Bridge(bridge.clone()));
        for at in 0..machines {
            let tap = leftovers::tap(at);
            bridge::make_tap(&tap, many).map_err(fail("make tap", &tap))?;
            self.made.0.push(Kind::Tap(tap.clone(), many));
            quiet(&tap);
            bridge::add_to_bridge(&bridge, &tap).map_err(fail("join to the bridge", &tap))?;
            bridge::set_up(&tap, true).map_err(fail("bring up", &tap))?;
            self.taps.push(tap);
        }
        quiet(&bridge);
        bridge::set_up(&bridge, true).map_err(fail("bring up", &bridge))
    }

    /// The process that carries the frames, if one does; `report`: where a switch tells.
    pub fn server(&self, scene: &Scene, switch: &[String], report: &File) -> Option<Command> {
        match scene.path.by {
            By::Bridge => None,
            By::Switch => {
                let mut command = Command::new("/proc/self/exe");
                command.arg("switch").args(switch);
                for socket in &self.sockets {
                    command.arg("--port").arg(socket);
                }
                command.arg("--report").arg(format!("json:{}", report.display()));
                Some(command)
            }
            By::Command => {
                let with_sockets = |word: &String| {
                    let sockets = scene.machines.iter().zip(&self.sockets);
                    sockets.fold(word.clone(), |word, (machine, socket)| {
                        word.replace(&format!("{{socket.{}}}", machine.name), &socket.display().to_string())
                    })
                };
                let mut words = scene.path.command.iter().map(with_sockets);
                let mut command = Command::new(words.next()?);
                command.args(words);
                Some(command)
            }
        }
    }

    /// What the kernel has counted at the taps.
    pub fn interfaces(&self, scene: &Scene) -> Vec<Interface> {
        let count = |tap: &str, name: &str| {
            let file = format!("/sys/class/net/{tap}/statistics/{name}");
            fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok())
        };
        let of = |(tap, machine): (&String, &super::file::Machine)| Interface {
            name: tap.clone(),
            machine: machine.name.clone(),
            from_packets: count(tap, "rx_packets"),
            from_bytes: count(tap, "rx_bytes"),
            from_dropped: count(tap, "rx_dropped"),
            to_packets: count(tap, "tx_packets"),
            to_bytes: count(tap, "tx_bytes"),
            to_dropped: count(tap, "tx_dropped"),
        };
        self.taps.iter().zip(&scene.machines).map(of).collect()
    }
}

/// The host itself says nothing on it: what moves there is the machines' own.
fn quiet(interface: &str) {
    // A host without IPv6 is quiet anyway.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
}

impl Drop for Made {
    fn drop(&mut self) {
        while let Some(kind) = self.0.pop() {
            let (what, name, removed): (_, _, io::Result<()>) = match &kind {
                Kind::Tap(name, many) => ("tap", name, bridge::remove_tap(name, *many)),
                Kind::Bridge(name) => ("bridge", name, bridge::remove_bridge(name)),
            };
            if let Err(error) = removed {
                say(format_args!("remove {what} {name}: {error}"));
            }
        }
    }
}
