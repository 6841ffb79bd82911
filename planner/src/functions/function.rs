//! `Function`: a scalar function as plain data, so that a family of functions is a table of names
//! and `fn`s instead of a struct and a trait implementation each.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{array::ArrayRef, datatypes::DataType};
use datafusion::{
    error::Result,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};

/// Answers the result type for argument types, or 42883 if there is no such function.
pub type TypeRule = fn(&[DataType]) -> Result<DataType>;
/// Answers the types the arguments are cast to before the call.
pub type Coercion = fn(&[DataType]) -> Result<Vec<DataType>>;
/// Computes the answer.
pub type Body = fn(&ScalarFunctionArgs) -> Result<ColumnarValue>;

/// A scalar function. Two of the same name are the same function.
#[derive(Debug)]
pub struct Function {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    coercion: Coercion,
    type_rule: TypeRule,
    body: Body,
}

impl Function {
    /// A function whose answer depends on nothing but its arguments; they come as they are.
    pub fn new(name: &'static str, type_rule: TypeRule, body: Body) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            signature: Signature::user_defined(Volatility::Immutable),
            coercion: |types| Ok(types.to_vec()),
            type_rule,
            body,
        }
    }

    /// Casts arguments before the call.
    pub fn coerced(mut self, coercion: Coercion) -> Self {
        self.coercion = coercion;
        self
    }

    /// Says that the answer may differ from call to call: never computed while planning.
    pub fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }

    /// Other names of it.
    pub fn aliased(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        self
    }

    /// As DataFusion takes it.
    pub fn build(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(self))
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Of a deep expression the name is short: DataFusion asks for it at every level of a chain of
    /// operators, and each would write out all levels below.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        if args.iter().any(|arg| is_deeper(arg, WRITTEN_LEVELS)) {
            let mut hasher = NameHasher::default();
            args.hash(&mut hasher);
            return Ok(format!("{}(#{:016x})", self.name, hasher.finish()));
        }
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name, args.join(",")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.coercion)(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        (self.type_rule)(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&args)
    }
}

/// Levels of calls that are written out in an expression's name.
const WRITTEN_LEVELS: usize = 6;

/// Whether calls are nested in `expr` deeper than `levels`.
fn is_deeper(expr: &Expr, levels: usize) -> bool {
    match expr {
        Expr::Cast(cast) => is_deeper(&cast.expr, levels),
        Expr::ScalarFunction(_) if levels == 0 => true,
        Expr::ScalarFunction(call) => call.args.iter().any(|arg| is_deeper(arg, levels - 1)),
        _ => false,
    }
}

/// What a deep expression's name is made from: each word is multiplied into 128 bits, whose halves
/// are laid over each other. The standard library's hasher takes five times as long, and all levels
/// of a chain are hashed at each of them. Nobody gains by a collision: it spoils one's own query.
#[derive(Default)]
struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        /// Digits of the golden ratio: odd, without a pattern.
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0.rotate_left(23) ^ word ^ 0x5851_f42d_4c95_7f2d) * FACTOR;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.mix(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let length = (rest.len() as u64) << 56;
            self.mix(rest.iter().fold(length, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The argument as an array of the batch's length.
pub fn array_argument(args: &ScalarFunctionArgs, index: usize) -> Result<ArrayRef> {
    args.args[index].to_array(args.number_rows)
}

/// An answer computed over arrays; a scalar again if every argument was one.
pub fn answer(args: &ScalarFunctionArgs, array: ArrayRef) -> Result<ColumnarValue> {
    let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    if is_constant && !args.args.is_empty() && !array.is_empty() {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

/// The argument as a text that is the same for all rows; `None` if NULL or a column.
pub fn constant_text(args: &ScalarFunctionArgs, index: usize) -> Option<String> {
    match args.args.get(index)? {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().map(str::to_owned),
        ColumnarValue::Array(_) => None,
    }
}
