use super::*;
use crate::testing::bringup::until;
use crate::testing::driver::Driver;
use crate::testing::machine::{Machine, memory};
use crate::testing::toy::Toy;

struct Wire(EventFd);

impl Interrupt for Wire {
    fn signal(&self) {
        self.0.write(1).unwrap();
    }
    fn event(&self) -> Option<&EventFd> {
        Some(&self.0)
    }
}

const BASE: u64 = 0xd000_0000;

fn load(device: &mut VirtioMmio, offset: u64) -> u32 {
    let mut data = [0xff; 4];
    device.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn store(device: &mut VirtioMmio, offset: u64, value: u32) {
    device.write(offset, &value.to_le_bytes());
}

fn device() -> (VirtioMmio, Driver, Arc<Wire>, Machine) {
    let (memory, machine) = (memory(), Machine::default());
    let wire = Arc::new(Wire(EventFd::new(0).unwrap()));
    let front = Front::new(Toy::boxed(), memory.clone(), false).unwrap();
    let device = VirtioMmio::new(front, BASE, wire.clone(), Arc::new(machine.clone()));
    (device, Driver::new(&memory, 0x1_0000, 16), wire, machine)
}

fn bring_up(device: &mut VirtioMmio, driver: &Driver) {
    for status in [0, 1, 3] {
        store(device, 0x70, status);
    }
    for half in [0, 1] {
        store(device, 0x14, half);
        let offered = load(device, 0x10);
        store(device, 0x24, half);
        store(device, 0x20, offered);
    }
    store(device, 0x70, 11);
    let layout = driver.layout;
    for (register, value) in [
        (0x30, 0),
        (0x38, 16),
        (0x80, layout.descriptors),
        (0x90, layout.available),
        (0xa0, layout.used),
        (0x44, 1),
        (0x70, 15),
    ] {
        store(device, register, value as u32);
    }
    assert_eq!(load(device, 0x70), 15);
}

#[test]
fn an_interrupt_has_a_reason_until_it_is_acknowledged() {
    let (mut device, mut driver, wire, machine) = device();
    bring_up(&mut device, &driver);
    assert_eq!(machine.asked.lock().unwrap().doorbells, [(Place::Memory(BASE + 0x50), Match::Value(0))]);
    let head = driver.chain(&[], &[(0x9000, 64)]);
    driver.offer(head);
    store(&mut device, 0x50, 0);
    assert_eq!(until(|| driver.used()), (head, 64));
    assert_eq!(wire.0.read().unwrap(), 1);
    assert_eq!(load(&mut device, 0x60), 1);
    store(&mut device, 0x64, 1);
    assert_eq!(load(&mut device, 0x60), 0);
    store(&mut device, 0x70, 0);
    assert!(machine.asked.lock().unwrap().doorbells.is_empty());
}

#[test]
fn a_broken_ring_is_a_change_of_configuration() {
    let (mut device, mut driver, wire, _) = device();
    bring_up(&mut device, &driver);
    driver.offer(999);
    store(&mut device, 0x50, 0);
    assert_eq!(wire.0.read().unwrap(), 1);
    assert_eq!((load(&mut device, 0x60), load(&mut device, 0x70)), (2, 15 | 64));
    bring_up(&mut device, &Driver::new(&driver.memory, 0x1_0000, 16));
}

#[test]
fn every_register_takes_every_store_of_every_width() {
    let (mut device, driver, ..) = device();
    for value in [0_u64, 1, 0x5555_5555_5555_5555, u64::MAX] {
        for offset in 0..0x110 {
            for len in [1, 2, 4, 8] {
                device.read(offset, &mut value.to_le_bytes()[..len]);
                device.write(offset, &value.to_le_bytes()[..len]);
            }
        }
    }
    bring_up(&mut device, &driver);
    assert_eq!((load(&mut device, 0), load(&mut device, 4)), (0x7472_6976, 2));
}
