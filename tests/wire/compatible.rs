//! Messages as an older version wrote them and as a newer one will, made and encoded by the independent CBOR library.

use ciborium::Value;
use tidegate::wire::{BurstState, Message, from_cbor};

use super::samples;
use super::schema::{Schema, read, unsigned};

fn write(value: &Value) -> Vec<u8> {
    let mut payload = Vec::new();
    ciborium::into_writer(value, &mut payload).unwrap();
    payload
}

/// A map within a message: its rule, and the entry to take at each level to get there (of an array, its first item).
struct Place {
    rule: String,
    path: Vec<usize>,
}

/// Every map of a message, the message itself first.
fn maps_in(schema: &Schema, rule: &str, value: &Value) -> Vec<Place> {
    let mut places = vec![Place { rule: rule.to_owned(), path: Vec::new() }];
    for (index, (key, inner)) in value.as_map().unwrap().iter().enumerate() {
        let kind = &schema.field(rule, unsigned(key)).kind;
        let (Some(inner_rule), Some(inner)) = (schema.rule_of(kind), first(inner)) else { continue };
        for Place { rule, path } in maps_in(schema, inner_rule, inner) {
            places.push(Place { rule, path: [vec![index], path].concat() });
        }
    }
    places
}

fn first(value: &Value) -> Option<&Value> {
    value.as_array().map_or(Some(value), |items| items.first())
}

/// The entries of the map at `path`.
fn entries<'a>(value: &'a mut Value, path: &[usize]) -> &'a mut Vec<(Value, Value)> {
    let value = match value {
        Value::Array(items) => &mut items[0],
        other => other,
    };
    let entries = value.as_map_mut().unwrap();
    match path {
        [] => entries,
        [index, rest @ ..] => self::entries(&mut entries[*index].1, rest),
    }
}

/// A copy of `message` in which `change` was done to the map at `path`.
fn changed(message: &Value, path: &[usize], change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Vec<u8> {
    let mut message = message.clone();
    change(entries(&mut message, path));
    write(&message)
}

#[test]
fn a_missing_key_is_accepted_exactly_where_the_cddl_says_so() {
    let schema = Schema::load();
    let mut removed = 0;
    for sample in samples::all() {
        let message = read(&sample.cbor());
        for Place { rule, path } in maps_in(&schema, sample.rule, &message) {
            let keys = entries(&mut message.clone(), &path).iter().map(|(key, _)| unsigned(key)).collect::<Vec<_>>();
            for (index, &key) in keys.iter().enumerate() {
                let shorter = changed(&message, &path, |entries| drop(entries.remove(index)));
                let decoded = sample.decode(&shorter);
                // The topic of an instance's announcement names the instance, so the payload has to.
                let named_by_topic = sample.name == "announcement-instance" && rule == "announcement" && key == 4;
                let accepted = schema.field(&rule, key).optional && !named_by_topic;
                assert_eq!(decoded.is_ok(), accepted, "{} {rule} {key}: {decoded:?}", sample.name);
                removed += 1;
            }
        }
    }
    assert!(removed > 150, "{removed}");
}

#[test]
fn messages_without_their_last_keys_decode_with_the_rest_unchanged() {
    let schema = Schema::load();
    for sample in samples::all() {
        let whole = read(&sample.cbor());
        let required = schema.maps[sample.rule].iter().filter(|field| !field.optional).count();
        let needed = if sample.name == "announcement-instance" { 5 } else { required };
        for length in needed..whole.as_map().unwrap().len() {
            let older = Value::Map(whole.as_map().unwrap()[..length].to_vec());
            let decoded =
                sample.decode(&write(&older)).unwrap_or_else(|error| panic!("{} {length}: {error}", sample.name));
            let json = decoded.to_value().unwrap();
            for field in &schema.maps[sample.rule][..needed] {
                assert_eq!(json[&field.name], sample.json()[&field.name], "{} {length}", sample.name);
            }
        }
    }
}

#[test]
fn keys_of_a_newer_version_are_skipped_wherever_they_stand() {
    let text = |text: &str| Value::Text(text.to_owned());
    let map = Value::Map(vec![(text("depth"), Value::Array(vec![Value::from(1.5), Value::Null]))]);
    let values = [Value::from(7), Value::from(-7), text("new"), Value::Bytes(vec![1, 2]), Value::Array(vec![]), map];
    let novelties: Vec<_> =
        [60_u64, 255, 256, 70_000, u64::MAX, 100].map(Value::from).into_iter().zip(values).collect();
    let schema = Schema::load();
    for sample in samples::all() {
        let message = read(&sample.cbor());
        for Place { rule, path } in maps_in(&schema, sample.rule, &message) {
            let first = changed(&message, &path, |entries| drop(entries.splice(0..0, novelties.clone())));
            let last = changed(&message, &path, |entries| entries.extend(novelties.clone()));
            assert_eq!(sample.decode(&first).as_ref(), Ok(&sample.message), "{} {rule}", sample.name);
            assert_eq!(sample.decode(&last).as_ref(), Ok(&sample.message), "{} {rule}", sample.name);
        }
    }
}

#[test]
fn a_number_is_as_wide_as_the_cddl_says() {
    let schema = Schema::load();
    let mut widths = [0, 0];
    for sample in samples::all() {
        let message = read(&sample.cbor());
        for Place { rule, path } in maps_in(&schema, sample.rule, &message) {
            let keys = entries(&mut message.clone(), &path).iter().map(|(key, _)| unsigned(key)).collect::<Vec<_>>();
            for (index, &key) in keys.iter().enumerate() {
                let kind = schema.field(&rule, key).kind.trim_end_matches(" / null");
                let Some(wide) = ["uint .size 4", "uint"].iter().position(|uint| *uint == kind) else { continue };
                let decode = |number: u64| {
                    let payload = changed(&message, &path, |entries| entries[index].1 = Value::from(number));
                    sample.decode(&payload)
                };
                let over = u64::from(u32::MAX) + 1;
                assert!(decode(over - 1).is_ok(), "{} {rule} {key}", sample.name);
                assert_eq!(decode(over).is_ok(), wide == 1, "{} {rule} {key}", sample.name);
                assert_eq!(decode(u64::MAX).is_ok(), wide == 1, "{} {rule} {key}", sample.name);
                widths[wide] += 1;
            }
        }
    }
    assert!(widths.iter().all(|&fields| fields > 10), "{widths:?}");
}

#[test]
fn a_number_of_a_newer_version_reads_as_other() {
    for number in [200_u64, 1_000, u64::MAX] {
        let payload = write(&Value::Map(vec![
            (Value::from(0), Value::from("gateway-7")),
            (Value::from(1), Value::from(12)),
            (Value::from(2), Value::from("l-1")),
            (Value::from(3), Value::from("digits")),
            (Value::from(5), Value::from(number)),
        ]));
        let status: tidegate::wire::BurstStatus = from_cbor(&payload).unwrap();
        assert_eq!(status.state, BurstState::Other);
    }
}

#[test]
fn an_event_of_a_kind_that_is_not_known_yet_is_shown() {
    let payload = write(&Value::Map(vec![
        (Value::from(0), Value::from("1.0")),
        (Value::from(1), Value::from("12-9")),
        (Value::from(2), Value::from("/tidegate/plant-a/gateway-7")),
        (Value::from(3), Value::from(77)),
    ]));
    let (root, topic) = tidegate::wire::Root::parse("tidegate/v1/plant-a/node/gateway-7/event/tide.turned").unwrap();
    let Ok(Message::Event(event)) = Message::decode(&root, &topic, &payload) else { panic!("not decoded") };
    assert_eq!(event.kind.as_str(), "other");
}

#[test]
fn floats_of_any_width_and_whole_numbers_read_as_the_same_number() {
    let cost = |bytes: &[u8]| {
        let head = [0xa5, 0x00, 0x61, b'n', 0x01, 0x01, 0x02, 0x61, b'l', 0x03, 0x61, b's', 0x0a];
        from_cbor::<tidegate::wire::BurstStatus>(&[&head, bytes].concat()).map(|status| status.cost)
    };
    assert_eq!(cost(&[0xf9, 0x3e, 0x00]), Ok(1.5));
    assert_eq!(cost(&[0xfa, 0x3f, 0xc0, 0x00, 0x00]), Ok(1.5));
    assert_eq!(cost(&[0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), Ok(1.5));
    assert_eq!(cost(&[0x02]), Ok(2.0));
}
