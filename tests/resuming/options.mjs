// Send a file with tus-js-client and options of a test: ADDRESS PATH OPTIONS
import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { PassThrough } from "node:stream";
import { Upload } from "tus-js-client";

const [service, path, text] = process.argv.slice(2);
const options = JSON.parse(text);
const file = createReadStream(path);
// tus-js-client knows the length of a file: a deferred one needs a stream of another kind
const upload = new Upload(options.uploadLengthDeferred ? file.pipe(new PassThrough()) : file, {
  endpoint: `${service}/files`,
  retryDelays: [0, 1000, 3000, 5000, 10000, 20000],
  metadata: { filename: basename(path) },
  onSuccess() {
    console.log(upload.url);
  },
  onError(error) {
    console.error(error.message);
    process.exitCode = 1;
  },
  ...options,
});
upload.start();
