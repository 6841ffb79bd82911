//! From the type a file has to the type the mapping declares: never a number that is wrapped or
//! lost. A value that does not fit is a [`Flaws`] of its row.
//!
//! | of the file | to | how |
//! | --- | --- | --- |
//! | numbers | numbers that may hold them; NUMERIC rounds to its scale | cast |
//! | DATE, TIME, TIMESTAMP | the same in microseconds, finer parts cut; DATE to a TIMESTAMP; TIMESTAMP to TIMESTAMPTZ and back, in UTC | cast |
//! | text | any type but BYTEA | read as text of other formats is |
//! | BYTEA | TEXT if it is UTF-8 | read |
//! | anything | TEXT | spelled as in files of text |
//!
//! No column of fractions becomes one of whole numbers, and no text becomes bytes.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, StringBuilder},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Float32Type, Float64Type},
    util::display::array_value_to_string,
};

use super::columns::type_name;
use crate::{
    Error, Result,
    decode::{Poison, column::Column, value::out_of_range},
    encode::column::ColumnText,
};

/// How the values of one column become those of the mapping's.
#[derive(Debug, Clone)]
pub struct Conversion {
    way: Way,
    field: Field,
}

#[derive(Debug, Clone)]
enum Way {
    /// By Arrow's cast.
    Cast,
    /// Bytes, by what decodes the texts of other formats.
    Decode,
    /// To a type of SQL, and then to text.
    Spell(DataType),
}

/// Rows that cannot be converted.
#[derive(Debug, Default)]
pub struct Flaws {
    first: Option<(usize, Box<Poison>)>,
    /// Which rows, from the first on.
    rows: Vec<bool>,
}

impl Flaws {
    /// The first that was found.
    pub fn first(&self) -> Option<&(usize, Box<Poison>)> {
        self.first.as_ref()
    }

    /// The rows without one, of so many.
    pub fn sound(&self, rows: usize) -> BooleanArray {
        (0..rows).map(|row| Some(!self.is_flawed(row))).collect()
    }

    /// Takes in those of a column.
    fn merge(&mut self, of: Flaws, column: &str) {
        if self.rows.len() < of.rows.len() {
            self.rows.resize(of.rows.len(), false);
        }
        for (row, is_flawed) in of.rows.iter().enumerate() {
            self.rows[row] |= is_flawed;
        }
        let Some((row, poison)) = of.first else { return };
        if self.first.as_ref().is_none_or(|(first, _)| row < *first) {
            self.first = Some((row, poison.in_column(column)));
        }
    }

    fn is_flawed(&self, row: usize) -> bool {
        self.rows.get(row).copied().unwrap_or(false)
    }

    #[cold]
    fn add(&mut self, row: usize, poison: Box<Poison>) {
        if self.rows.len() <= row {
            self.rows.resize(row + 1, false);
        }
        self.rows[row] = true;
        if self.first.as_ref().is_none_or(|(first, _)| row < *first) {
            self.first = Some((row, poison));
        }
    }
}

impl Conversion {
    /// From values read as one type, which SQL takes for another; `None` if the column cannot hold
    /// them.
    pub fn new(read: &DataType, natural: &DataType, field: &Field) -> Option<Self> {
        use DataType::{Binary, Date32, Decimal128, FixedSizeBinary, Timestamp, Utf8};
        let declared = field.data_type();
        let is_whole =
            |data_type: &DataType| data_type.is_integer() || matches!(data_type, Decimal128(_, 0));
        let is_number =
            |data_type: &DataType| data_type.is_numeric() || matches!(data_type, Decimal128(..));
        let way = match (natural, declared) {
            (Utf8, Binary) => return None,
            (Utf8, _) => Way::Decode,
            (Binary, Binary | Utf8) if *read == DataType::BinaryView => Way::Decode,
            (from, to) if from == to => Way::Cast,
            (Binary, FixedSizeBinary(16)) if read == declared => Way::Cast,
            (Binary, _) => return None,
            (from, to) if is_whole(from) && is_number(to) => Way::Cast,
            (from, to) if is_number(from) && is_number(to) && !to.is_integer() => Way::Cast,
            (Date32 | Timestamp(..), Timestamp(..)) => Way::Cast,
            (_, Utf8) => Way::Spell(natural.clone()),
            _ => return None,
        };
        Some(Self { way, field: field.clone() })
    }

    /// The values as the column has them; those of flawed rows are anything.
    pub fn convert(&self, values: &ArrayRef, flaws: &mut Flaws) -> Result<ArrayRef> {
        let mut found = Flaws::default();
        let converted = match &self.way {
            Way::Cast => cast(values, self.field.data_type(), &mut found)?,
            Way::Decode => self.decode(values, &mut found)?,
            Way::Spell(natural) => {
                let natural = cast(values, natural, &mut found)?;
                self.spell(&natural, &mut found)?
            }
        };
        if !self.field.is_nullable() && converted.null_count() > 0 {
            for row in (0..converted.len()).filter(|row| converted.is_null(*row)) {
                if !found.is_flawed(row) {
                    let reason = "null value in a column that is not null";
                    found.add(row, Poison::new("23502", reason));
                }
            }
        }
        flaws.merge(found, self.field.name());
        Ok(converted)
    }

    fn decode(&self, values: &ArrayRef, flaws: &mut Flaws) -> Result<ArrayRef> {
        let nullable = self.field.clone().with_nullable(true);
        let unknown = || Error::Internal("a column of a type that no format has".to_owned());
        let mut column = Column::new(&nullable).ok_or_else(unknown)?;
        let values = values.as_binary_view();
        for row in 0..values.len() {
            let appended = match values.is_null(row) {
                true => column.append_null(),
                false => column.append_bytes(values.value(row)),
            };
            if let Err(poison) = appended {
                flaws.add(row, poison);
                column.append_null().map_err(|_| unknown())?;
            }
        }
        column.finish()
    }

    fn spell(&self, values: &ArrayRef, flaws: &mut Flaws) -> Result<ArrayRef> {
        let field = Field::new(self.field.name(), values.data_type().clone(), true);
        let unknown = || Error::Internal("a type without a text".to_owned());
        let texts = ColumnText::new(&field, values).ok_or_else(unknown)?;
        let mut spelled = StringBuilder::new();
        let mut text = Vec::new();
        for row in 0..values.len() {
            if texts.is_null(row) {
                spelled.append_null();
                continue;
            }
            text.clear();
            match texts.write_text(row, &mut text) {
                Ok(()) => spelled.append_value(std::str::from_utf8(&text).map_err(|_| unknown())?),
                Err(Error::User { code, message }) => {
                    flaws.add(row, Poison::new(code, message));
                    spelled.append_null();
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Arc::new(spelled.finish()))
    }
}

/// Casts; what does not fit is a flaw.
fn cast(values: &ArrayRef, to: &DataType, flaws: &mut Flaws) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(Arc::clone(values));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let converted = cast_with_options(values, to, &options)?;
    let mut out_of_range_at = |row: usize| {
        let text = array_value_to_string(values, row).unwrap_or_default();
        flaws.add(row, out_of_range(&type_name(to), &text));
    };
    if converted.null_count() > values.null_count() {
        let is_lost = |row: &usize| converted.is_null(*row) && values.is_valid(*row);
        (0..values.len()).filter(is_lost).for_each(&mut out_of_range_at);
    }
    if *to == DataType::Float32 && *values.data_type() == DataType::Float64 {
        // The only cast of numbers that makes something else of what does not fit.
        let (wide, narrow) =
            (values.as_primitive::<Float64Type>(), converted.as_primitive::<Float32Type>());
        let is_overflow =
            |row: &usize| narrow.value(*row).is_infinite() && wide.value(*row).is_finite();
        (0..values.len())
            .filter(|row| values.is_valid(*row) && is_overflow(row))
            .for_each(&mut out_of_range_at);
    }
    Ok(converted)
}
