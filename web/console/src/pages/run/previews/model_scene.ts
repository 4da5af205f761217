// Draws a glTF model: lit from all sides, in the middle, turning until somebody takes hold of it.
import {
  Box3,
  Mesh,
  PerspectiveCamera,
  PMREMGenerator,
  Scene,
  Sphere,
  WebGLRenderer,
  type Material,
  type Object3D,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { RoomEnvironment } from "three/examples/jsm/environments/RoomEnvironment.js";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

const FIELD_OF_VIEW = 40;
const PIXEL_RATIO_MAX = 2;
const TURN = 0.12;

/** The model is on the canvas and stays there until `abort`, when all that it held is given back. */
export async function showModel(canvas: HTMLCanvasElement, model: ArrayBuffer, abort: AbortSignal): Promise<void> {
  const { scene: object } = await new GLTFLoader().parseAsync(model, "");
  if (abort.aborted) return;
  const renderer = makeRenderer(canvas);
  const scene = new Scene();
  const generator = new PMREMGenerator(renderer);
  scene.environment = generator.fromScene(new RoomEnvironment()).texture;
  scene.add(object);
  const camera = cameraFor(object);
  const controls = controlsFor(camera, canvas);

  const resize = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
  };
  const observer = new ResizeObserver(resize);
  observer.observe(canvas);
  renderer.setAnimationLoop(() => {
    controls.update();
    renderer.render(scene, camera);
  });
  abort.addEventListener("abort", () => {
    observer.disconnect();
    renderer.setAnimationLoop(null);
    controls.dispose();
    dispose(object);
    generator.dispose();
    renderer.dispose();
  });
}

function makeRenderer(canvas: HTMLCanvasElement): WebGLRenderer {
  let renderer: WebGLRenderer;
  try {
    renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true });
  } catch {
    throw new Error("This browser cannot draw in three dimensions (no WebGL); download the model instead.");
  }
  renderer.setPixelRatio(Math.min(devicePixelRatio, PIXEL_RATIO_MAX));
  return renderer;
}

function cameraFor(object: Object3D): PerspectiveCamera {
  const sphere = new Box3().setFromObject(object).getBoundingSphere(new Sphere());
  object.position.sub(sphere.center);
  const distance = (sphere.radius / Math.sin((FIELD_OF_VIEW * Math.PI) / 360)) * 1.15;
  const camera = new PerspectiveCamera(FIELD_OF_VIEW, 1, distance / 100, distance * 10);
  camera.position.set(distance * 0.5, distance * 0.35, distance * 0.79);
  return camera;
}

function controlsFor(camera: PerspectiveCamera, canvas: HTMLCanvasElement): OrbitControls {
  const controls = new OrbitControls(camera, canvas);
  controls.enableDamping = true;
  controls.autoRotate = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  controls.addEventListener("start", () => (controls.autoRotate = false));
  canvas.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [TURN, 0], ArrowRight: [-TURN, 0], ArrowUp: [0, TURN], ArrowDown: [0, -TURN] }[event.key];
    if (turn === undefined) return;
    event.preventDefault();
    controls.autoRotate = false;
    controls.rotateLeft(turn[0]!);
    controls.rotateUp(turn[1]!);
  });
  return controls;
}

function dispose(object: Object3D): void {
  object.traverse((part) => {
    if (!(part instanceof Mesh)) return;
    part.geometry.dispose();
    for (const material of [part.material].flat() as Material[]) material.dispose();
  });
}
