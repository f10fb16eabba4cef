/* Matrix times vector, which is nearly all that a language model computes: in WebAssembly with SIMD (four numbers at a
   time), or in plain JavaScript where a browser has no SIMD.

   The WebAssembly program stands below as text and is assembled when the page opens: nothing binary is committed, and no
   tool is needed. */

// --- the program -----------------------------------------------------------------------------------------------------

/* y[o] = bias[o] + sum over i of weight[o, i] · x[i]; all parameters are addresses of float32 numbers in bytes.
   The width of x is a multiple of 8. */
const PARAMETERS = ["weight", "bias", "x", "xEnd", "y", "yEnd"];
const LOCALS = { xAt: "i32", sum: "v128", other: "v128" };
const PROGRAM = `
loop outputs
    local.get x
    local.set xAt
    f32.const 0
    f32x4.splat
    local.tee sum
    local.set other
    loop inputs
        local.get sum
        local.get xAt
        v128.load 0
        local.get weight
        v128.load 0
        f32x4.mul
        f32x4.add
        local.set sum
        local.get other
        local.get xAt
        v128.load 16
        local.get weight
        v128.load 16
        f32x4.mul
        f32x4.add
        local.set other
        local.get weight
        i32.const 32
        i32.add
        local.set weight
        local.get xAt
        i32.const 32
        i32.add
        local.tee xAt
        local.get xEnd
        i32.lt_u
        br_if inputs
    end
    local.get sum
    local.get other
    f32x4.add
    local.set sum
    local.get y
    local.get sum
    f32x4.extract_lane 0
    local.get sum
    f32x4.extract_lane 1
    f32.add
    local.get sum
    f32x4.extract_lane 2
    local.get sum
    f32x4.extract_lane 3
    f32.add
    f32.add
    local.get bias
    f32.load 0
    f32.add
    f32.store 0
    local.get bias
    i32.const 4
    i32.add
    local.set bias
    local.get y
    i32.const 4
    i32.add
    local.tee y
    local.get yEnd
    i32.lt_u
    br_if outputs
end
end`; // the last one ends the function

// --- the assembler ---------------------------------------------------------------------------------------------------

/* Instruction -> its bytes (WebAssembly Core Specification 2.0, section 5.4). */
const CODES = {
    loop: [0x03],
    end: [0x0b],
    br_if: [0x0d],
    "local.get": [0x20],
    "local.set": [0x21],
    "local.tee": [0x22],
    "f32.load": [0x2a],
    "f32.store": [0x38],
    "i32.const": [0x41],
    "f32.const": [0x43],
    "i32.lt_u": [0x49],
    "i32.add": [0x6a],
    "f32.add": [0x92],
    "v128.load": [0xfd, 0x00],
    "f32x4.splat": [0xfd, 0x13],
    "f32x4.extract_lane": [0xfd, 0x1f],
    "f32x4.add": [0xfd, 0xe4, 0x01],
    "f32x4.mul": [0xfd, 0xe6, 0x01],
};
const TYPES = { i32: 0x7f, v128: 0x7b };
const NO_RESULT = 0x40; // of a loop
const UNALIGNED = 0; // an address may be any: only a hint

/* A whole number as LEB128, seven bits a byte. Constants here are below 64, so the signed form has the same bytes. */
function leb(number) {
    const bytes = [];
    do {
        const rest = number >>> 7;
        bytes.push((number & 0x7f) | (rest ? 0x80 : 0));
        number = rest;
    } while (number);
    return bytes;
}

/* The bytes of the program's instructions. */
function assembled(program) {
    const names = [...PARAMETERS, ...Object.keys(LOCALS)];
    const open = []; // loops that we are in
    const bytes = [];
    for (const line of program.trim().split("\n")) {
        const [instruction, operand] = line.trim().split(" ");
        bytes.push(...CODES[instruction]);
        if (instruction.startsWith("local.")) bytes.push(...leb(names.indexOf(operand)));
        else if (instruction === "br_if") bytes.push(open.length - 1 - open.indexOf(operand));
        else if (instruction === "i32.const" || instruction === "f32x4.extract_lane") bytes.push(...leb(Number(operand)));
        else if (instruction === "f32.const") bytes.push(...new Uint8Array(new Float32Array([Number(operand)]).buffer));
        else if (/load|store/.test(instruction)) bytes.push(UNALIGNED, ...leb(Number(operand)));
        else if (instruction === "end") open.pop();
        else if (instruction === "loop") {
            bytes.push(NO_RESULT);
            open.push(operand);
        }
    }
    return bytes;
}

const text = (name) => [name.length, ...new TextEncoder().encode(name)];
const section = (number, bytes) => [number, ...leb(bytes.length), ...bytes];

/* A module that imports its memory and exports the function "multiply". */
function moduleBytes() {
    const parameters = PARAMETERS.map(() => TYPES.i32);
    const locals = Object.values(LOCALS).flatMap((type) => [1, TYPES[type]]); // one of each
    const body = [Object.keys(LOCALS).length, ...locals, ...assembled(PROGRAM)];
    return new Uint8Array([
        ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
        ...section(1, [1, 0x60, parameters.length, ...parameters, 0]), // one type of function, without a result
        ...section(2, [1, ...text("page"), ...text("memory"), 0x02, 0x00, 1]), // a memory of at least one page
        ...section(3, [1, 0]), // one function, of that type
        ...section(7, [1, ...text("multiply"), 0x00, 0]),
        ...section(10, [1, ...leb(body.length), ...body]),
    ]);
}

// --- the two kernels -------------------------------------------------------------------------------------------------

const PAGE = 65_536; // bytes

/* Arrays in a memory of `size` float32 numbers, and their product in WebAssembly. The memory never grows: growing would
   take the arrays away. */
class SimdKernel {
    constructor(size) {
        this.memory = new WebAssembly.Memory({ initial: Math.ceil((4 * size) / PAGE) + 1 });
        const instance = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes()), {
            page: { memory: this.memory },
        });
        this.compute = instance.exports.multiply;
        this.used = 0; // bytes
        this.name = "WebAssembly SIMD";
    }

    array(length) {
        const made = new Float32Array(this.memory.buffer, this.used, length);
        this.used += 4 * length;
        return made;
    }

    /* y [O] = weight [O, I] · x [I] + bias [O] */
    multiply({ weight, bias }, x, y) {
        const end = (array) => array.byteOffset + 4 * array.length;
        this.compute(weight.byteOffset, bias.byteOffset, x.byteOffset, end(x), y.byteOffset, end(y));
    }
}

/* The same in plain JavaScript. */
class PlainKernel {
    name = "plain JavaScript";

    array(length) {
        return new Float32Array(length);
    }

    multiply({ weight, bias }, x, y) {
        const width = x.length;
        for (let o = 0; o < y.length; o++) {
            const from = o * width;
            let sum = bias[o];
            for (let i = 0; i < width; i++) sum += weight[from + i] * x[i];
            y[o] = sum;
        }
    }
}

/* The fastest kernel that works here, for arrays of `size` numbers in all.

   widths: of the vectors that will be multiplied; the SIMD program takes steps of 8. */
export function makeKernel(size, widths) {
    if (widths.some((width) => width % 8)) return new PlainKernel();
    try {
        return new SimdKernel(size);
    } catch (error) {
        console.info(`no WebAssembly SIMD here (${error.message}): plain JavaScript is used`);
        return new PlainKernel();
    }
}

export { PlainKernel };
