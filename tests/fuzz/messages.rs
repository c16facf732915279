//! Messages of every RPC, made of the descriptors: one that is added tomorrow is tried as well.

use leadsd::grpc::DESCRIPTORS;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::{dice::Dice, world::Peers};

/// The contract, flat.
pub(crate) struct Contract {
    /// Path and input type.
    pub(crate) methods: Vec<(String, String)>,
    types: Vec<(String, DescriptorProto)>,
}

/// What exists, so that not everything is refused at once.
pub(crate) struct Known<'a> {
    pub(crate) peers: &'a Peers,
    /// One field in so many is not as it is meant.
    pub(crate) odd: usize,
}

// === impl Contract ===

impl Contract {
    pub(crate) fn read() -> Self {
        let (mut methods, mut types) = (Vec::new(), Vec::new());
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.push((path, method.input_type().to_owned()));
                }
            }
            for message in &file.message_type {
                add(&mut types, &format!(".{}", file.package()), message);
            }
        }
        // A watch goes on until its caller leaves.
        methods.retain(|(path, _)| !path.ends_with("/WatchQuota"));
        assert!(methods.len() >= 13, "{methods:?}");
        Self { methods, types }
    }

    /// A message of this type: most fields as they are meant, some not.
    pub(crate) fn message(&self, dice: &mut Dice, known: &Known<'_>, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.fill(dice, known, name, 0, &mut bytes);
        bytes
    }

    fn fill(
        &self,
        dice: &mut Dice,
        known: &Known<'_>,
        name: &str,
        depth: usize,
        out: &mut Vec<u8>,
    ) {
        let Some((_, message)) = self.types.iter().find(|(known, _)| known == name) else { return };
        for field in &message.field {
            let many = field.label() == Label::Repeated;
            let needed = ["id", "ids", "inputs", "key", "primary_contact_id", "to_id"];
            let times = match dice.below(20) {
                0..6 if !needed.contains(&field.name()) || dice.one_in(known.odd) => 0,
                6 if many => dice.below(200),
                7 | 8 if many => 2,
                _ => 1,
            };
            let number = u32::try_from(field.number()).unwrap();
            for _ in 0..times {
                if dice.one_in(known.odd * 8) {
                    // Another wire type than the field's.
                    encode_key(number, WireType::Varint, out);
                    encode_varint(dice.number(), out);
                    continue;
                }
                match field.r#type() {
                    Type::Message if depth < 6 => {
                        let mut inner = Vec::new();
                        self.fill(dice, known, field.type_name(), depth + 1, &mut inner);
                        put(number, &inner, out);
                    }
                    Type::String => {
                        let text = known.text(dice, field.name());
                        put(number, text.as_bytes(), out);
                    }
                    Type::Bytes => put(number, &dice.bytes(40), out),
                    Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                        encode_key(number, WireType::SixtyFourBit, out);
                        out.extend(dice.number().to_le_bytes());
                    }
                    Type::Bool | Type::Enum => {
                        encode_key(number, WireType::Varint, out);
                        encode_varint(
                            if dice.one_in(known.odd) { dice.number() } else { dice.roll() % 5 },
                            out,
                        );
                    }
                    _ => {
                        encode_key(number, WireType::Varint, out);
                        encode_varint(
                            if dice.one_in(known.odd) { dice.number() } else { dice.roll() % 101 },
                            out,
                        );
                    }
                }
            }
        }
    }
}

fn add(types: &mut Vec<(String, DescriptorProto)>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add(types, &name, nested);
    }
    types.push((name, message.clone()));
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

// === impl Known ===

impl Known<'_> {
    /// A text for a field of this name.
    fn text(&self, dice: &mut Dice, field: &str) -> String {
        if dice.one_in(self.odd) {
            return dice.text();
        }
        let lead = dice.pick(&self.peers.leads).clone();
        let one_of = |dice: &mut Dice, all: &[&str]| (*dice.pick(all)).to_owned();
        match field {
            "id" | "ids" | "value" | "values" if dice.one_in(2) => lead,
            "id" | "ids" => format!("k{}", dice.below(40)),
            "primary_contact_id" | "to_id" => self.peers.contact.clone(),
            "id_property" => one_of(dice, &["", "crm_key", "hs_object_id", "nothing"]),
            "page_token" | "request_id" | "object_write_trace_id" | "query" if dice.one_in(2) => {
                String::new()
            }
            "key" | "properties" | "properties_with_history" | "property_name" | "property" => {
                one_of(
                    dice,
                    &["hs_lead_name", "hs_lead_label", "hs_object_id", "crm_key", "createdate"],
                )
            }
            "associations" => one_of(dice, &["contacts", "companies", "deals", "0-1"]),
            "value" if self.odd > 20 => format!("Jane {}", dice.below(100)),
            _ if self.odd > 20 => String::new(),
            _ => dice.text(),
        }
    }
}
