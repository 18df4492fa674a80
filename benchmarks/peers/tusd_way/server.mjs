// A tus server in the way of tusd, by packages of the same authors: the bytes of a part go to a temporary file, the part
// goes from there to S3, and an object `….info` keeps the state. The port is the only argument.
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const datastore = new S3Store({
  useTags: false,
  s3ClientConfig: {
    bucket: process.env.UPLOAD_BUCKET,
    endpoint: process.env.UPLOAD_S3_ENDPOINT_URL,
    region: process.env.AWS_DEFAULT_REGION,
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED", // otherwise in chunks, which the store refuses
    credentials: {
      accessKeyId: process.env.AWS_ACCESS_KEY_ID,
      secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    },
  },
});
const server = new Server({ path: "/files", datastore, namingFunction: (_request, metadata) => metadata.filename });
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
